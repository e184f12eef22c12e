"""Files: whole or not at all (`whole_files`), locks (`locks`), and errors of SQLite (`sqlite`)."""
