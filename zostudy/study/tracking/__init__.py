"""What a trial records of itself, kept on this machine until MLflow has it.

Public: `runs` (a trial and its runs) and `journal` (the folders in which they wait). Neither
knows MLflow: `zostudy.study.delivery` does.
"""
