"""Sums of weighted terms: torch's own gradients, bit for bit."""

import pytest
import torch

from zostudy.networks.node_operations import Term
from zostudy.networks.node_sums import spread, together


def leaves(dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    shape = (3, 5, 4, 4)
    term, first = (torch.randn(shape, generator=draw, dtype=dtype) for _ in range(2))
    weights = torch.randn(3, generator=draw, dtype=dtype)
    return [each.requires_grad_() for each in (term, first, weights)]


def by_one_call(term, first, weights):
    """Two nodes that nothing entered yet, and one that something did."""
    sums = {2: first.clone()}
    spread(sums, [1, 2, 3], term, weights.unbind())
    return [sums[target] for target in (1, 2, 3)]


def one_by_one(term, first, weights):
    one, two, three = weights.unbind()
    return [one * term, first.clone().addcmul_(two, term), three * term]


def gradients(function, given, create_graph=False):
    outputs = function(*given)
    loss = sum((output**2).sum() * place for place, output in enumerate(outputs, 1))
    return outputs, torch.autograd.grad(loss, given, create_graph=create_graph)


def test_a_term_enters_several_nodes_as_torch_adds_it():
    ours, theirs = (gradients(way, leaves()) for way in (by_one_call, one_by_one))
    for own, other in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("without", [0, 1, 2])
def test_what_needs_no_gradient_gets_none(without):
    given = leaves()
    given[without].requires_grad_(requires_grad=False)
    sum(output.sum() for output in by_one_call(*given)).backward()
    for place, leaf in enumerate(given):
        assert (leaf.grad is None) == (place == without)


def test_gradients_of_gradients():
    found = []
    for way in (by_one_call, one_by_one):
        given = leaves(torch.float64)
        _, first = gradients(way, given, create_graph=True)
        found.append(torch.autograd.grad(sum(each.square().sum() for each in first), given))
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other)


def test_terms_of_the_same_pictures_come_together():
    node, pooled, part = torch.zeros(3, 1, 1, 1, 1)
    weight = torch.ones(())
    terms = [
        Term(0, part),
        Term(0, pooled, weight),
        Term(2, pooled, weight),
        Term(0, node, weight),
        Term(1, node, weight),
    ]
    rows = [rows for rows, _, _ in together(iter(terms), node)]
    assert rows == [[0], [0, 2], [0], [1]]
