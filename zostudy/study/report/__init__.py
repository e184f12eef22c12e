"""What people read: results as a document, tables and progress in the terminal.

Public: `results` (the document), `console` (a study's end in the terminal) and `progress` (what is
shown while trials run).
"""
