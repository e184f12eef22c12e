"""``python -m zostudy``, as torchrun starts it."""

from zostudy.cli import main

main()
