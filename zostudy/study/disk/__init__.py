"""Files that appear whole or not at all (`files`), and locks between processes (`locks`)."""
