"""Whether this machine computes the operations of a study correctly.

`cases` says which shapes a study has, `kernels` compares one of them with float64, `process` does
so in a process of its own, which may crash or hang, `check` asks it and says what is wrong, and
`passed` remembers which machine has passed.
"""
