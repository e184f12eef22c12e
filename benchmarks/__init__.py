"""What the README's figures come from: each module prints one document (``--json``) or a table."""
