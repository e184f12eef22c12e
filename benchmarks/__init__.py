"""Where the documentation's figures come from: each module prints a table, or JSON (``--json``)."""
