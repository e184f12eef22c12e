"""Accuracies predicted from architectures whose accuracies are known, with intervals.

Public: `encodings` (an architecture as numbers), `models` (regressions and their blend),
`predictor` (fitted, it predicts), `examples` (what it is fitted on, from a CSV file) and `storage`
(predictors as JSON files).
"""
