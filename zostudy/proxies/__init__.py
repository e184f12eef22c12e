"""Zero-cost proxies: scores of an untrained network (the paper calls them ranking functions).

Public: `inputs` (what a proxy is given and how a study names it), `values` (what proxies find) and
`norms` (contexts in which BN is another function); the other modules hold the proxies themselves,
which the registry finds. Pruning and search may both use them.
"""
