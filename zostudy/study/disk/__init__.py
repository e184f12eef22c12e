"""Files that appear whole or not at all (`whole_files`), and locks between processes (`locks`)."""
