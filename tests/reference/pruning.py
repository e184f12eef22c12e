"""Ranking, leave-one-out scores and Algorithm 1 in plain loops (docs/method.md, section 5)."""

import math

import torch


def nngp_frobenius(logits):
    """Frobenius norm of the correlation matrix [n, n] of n rows of logits."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    total = 0.0
    for a in centred:
        for b in centred:
            correlation = (a @ b) / torch.sqrt((a @ a) * (b @ b))
            total += float(correlation) ** 2
    return math.sqrt(total)


def remaining(row):
    return [o for o, keep in enumerate(row) if keep]


def uniform_mixing(mask, like, removed=None):
    """1/|E_i| on the remaining operations; 1/(|E_i| - 1) on the edge of the removed one."""
    mixing = {}
    for kind in mask:
        weights = torch.zeros(len(mask[kind]), len(mask[kind][0])).to(like)
        for edge, row in enumerate(mask[kind]):
            kept = [o for o in remaining(row) if (kind, edge, o) != removed]
            for o in kept:
                weights[edge, o] = 1.0 / len(kept)
        mixing[kind] = weights
    return mixing


def uniform_edge_weights(network, like):
    """With edge normalization, the same share for every edge that enters a node; else ones."""
    if not network.edge_normalization:
        return None
    targets = [target for _, target in network.topology]
    shares = torch.tensor([1.0 / targets.count(target) for target in targets]).to(like)
    return dict.fromkeys(network.mask, shares)


def rank(network, batches, mixing, ranking=nngp_frobenius):
    """r, averaged over batches of images."""
    with torch.no_grad():
        edge_weights = uniform_edge_weights(network, batches[0])
        values = [ranking(network(images, mixing, edge_weights)) for images in batches]
    return sum(values) / len(values)


def leave_one_out_scores(network, batches, mask, rankings=(nngp_frobenius,)):
    """s_j of every operation that an edge could lose: {(cell type, edge, operation): score}.

    One full forward pass over all batches for each. The last operation of an edge has no score.
    """
    scores = {}
    for ranking in rankings:
        base = rank(network, batches, uniform_mixing(mask, batches[0]), ranking)
        for kind in mask:
            for edge, row in enumerate(mask[kind]):
                if len(remaining(row)) == 1:
                    continue
                for o in remaining(row):
                    place = (kind, edge, o)
                    mixing = uniform_mixing(mask, batches[0], removed=place)
                    without = rank(network, batches, mixing, ranking)
                    scores[place] = scores.get(place, 0.0) + (base - without) / base
    return scores


def level(mask, measure):
    """What remains: Σ|E_i| / Σ|E_i in N_0| of operations, or Π over Π of architectures."""
    counts = [(len(remaining(row)), len(row)) for kind in mask for row in mask[kind]]
    if measure == "operations":
        return sum(left for left, _ in counts) / sum(full for _, full in counts)
    if measure == "architectures":
        return math.prod(left / full for left, full in counts)
    raise ValueError(f"unknown measure {measure!r}")


def algorithm1(score, mask, xi, measure="architectures", operations_per_round=1):
    """The masks after each round of Algorithm 1, the first one unpruned.

    `score(mask)` gives {(cell type, edge, operation): s_j}. Every edge with more than one operation
    loses its lowest ones each round, and keeps at least one; of equal scores the first goes first.
    """
    masks = [{kind: [list(row) for row in mask[kind]] for kind in mask}]
    while level(masks[-1], measure) > xi:
        current = masks[-1]
        if all(len(remaining(row)) == 1 for kind in current for row in current[kind]):
            break
        scores = score(current)
        after = {kind: [list(row) for row in current[kind]] for kind in current}
        for kind in current:
            for edge, row in enumerate(current[kind]):
                kept = remaining(row)
                if len(kept) == 1:
                    continue
                ranked = sorted(kept, key=lambda o, k=kind, e=edge: (scores[k, e, o], o))
                for o in ranked[: min(operations_per_round, len(kept) - 1)]:
                    after[kind][edge][o] = False
        masks.append(after)
    return masks
