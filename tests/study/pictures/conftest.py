import pytest

from tests.drawn import SPACES


@pytest.fixture(params=SPACES)
def name(request):
    return request.param


@pytest.fixture
def space(name):
    return SPACES[name]
