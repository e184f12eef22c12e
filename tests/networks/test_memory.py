import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from zostudy.networks.memory import LiveBytes, PeakMemory, Predicted, held_bytes

DEVICES = [torch.device("cpu"), torch.device("meta")]
FLOAT, LONG = 4, 8


@pytest.fixture(params=DEVICES, ids=str)
def device(request):
    return request.param


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8, affine=False, track_running_stats=False),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def train_steps(device, *, steps=3):
    """(peak, current at the end) of each training step with momentum and clipping."""
    network = small_network().to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    images = torch.zeros(7, 3, 17, 17, device=device)
    labels = torch.zeros(7, dtype=torch.long, device=device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(images), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    seen = []
    for _ in range(steps):
        with LiveBytes(network, optimizer, images, labels) as live:
            step()
        seen.append((live.peak, live.current, held_bytes(network, optimizer, images, labels)))
    return seen


def test_a_chain_frees_each_result_when_the_next_is_made(device):
    with LiveBytes() as live:
        x = torch.zeros(10, device=device)
        for _ in range(5):
            x = x + 1
        assert live.current == 10 * FLOAT
        assert live.peak == 20 * FLOAT
        del x
        assert live.current == 0


def test_views_and_in_place_results_count_once(device):
    with LiveBytes() as live:
        x = torch.zeros(4, 6, device=device)
        views = [x.t(), x[1:], x.reshape(24), *x.split(2), x.detach(), x.unbind()]
        x.add_(1)
        x[0].mul_(2)
        assert live.current == live.peak == 24 * FLOAT
        del x
        assert live.current == 24 * FLOAT
        del views
        assert live.current == 0


def test_tensors_from_before_count_only_as_holders(device):
    x, y = torch.zeros(8, device=device), torch.zeros(2, device=device)
    with LiveBytes(x, x[2:]) as live:
        kept = [x.view(2, 4), y.view(2, 1), y.add_(1), torch.ops.aten._unsafe_view(y, [1, 2])]
        assert live.current == live.peak == 8 * FLOAT
        del kept


def test_a_holders_tensor_that_is_freed_inside_lowers_the_count(device):
    weight = torch.zeros(100, device=device, requires_grad=True)
    weight.grad = torch.zeros(100, device=device)
    with LiveBytes(weight) as live:
        assert live.current == 200 * FLOAT
        weight.grad = None
        assert live.current == 100 * FLOAT
        made = torch.zeros(50, device=device)
        assert live.current == 150 * FLOAT
        assert live.peak == 200 * FLOAT
        del made


def test_saved_tensors_live_until_the_backward_pass_has_used_them(device):
    x = torch.zeros(10, device=device, requires_grad=True)
    with LiveBytes(x) as live:
        loss = x.exp().exp().sum()  # two results saved, and one number
        assert live.current == 30 * FLOAT + FLOAT
        loss.backward()
        assert live.current == 20 * FLOAT + FLOAT  # x, its gradient, the loss
    # Seed 1; expanded without memory; then the two products, each beside what it is made of.
    assert live.peak == 10 * FLOAT + 20 * FLOAT + 2 * FLOAT + 10 * FLOAT


def test_several_and_nested_outputs_are_counted(device):
    with LiveBytes() as live:
        values, indices = torch.zeros(3, 5, device=device).max(dim=1)
        assert live.current == 3 * FLOAT + 3 * LONG
        halves = torch._foreach_add([values, values], 1.0)
        assert live.current == 3 * FLOAT + 3 * LONG + 6 * FLOAT
        del values, indices, halves
        assert live.current == 0


def test_an_operation_that_resizes_its_output_is_followed(device):
    with LiveBytes() as live:
        out = torch.zeros(0, device=device)
        torch.add(torch.zeros(6, device=device), 1, out=out)
        assert live.current == 6 * FLOAT
        assert live.peak == 12 * FLOAT


def test_reused_addresses_never_confuse_the_count():
    with LiveBytes() as live:
        kept = []
        for size in range(1, 400):
            x = torch.empty(size)
            if size % 3 == 0:
                kept.append(x[: size // 2])
            del x
            assert live.current == FLOAT * sum(range(3, size + 1, 3))
        kept.clear()
        assert live.current == 0


def test_contexts_nest_and_each_keeps_its_own_count(device):
    with LiveBytes() as outer:
        x = torch.zeros(10, device=device)
        with LiveBytes() as inner:
            y = x + 1
        z = x + 2
        assert (inner.current, inner.peak) == (10 * FLOAT, 10 * FLOAT)
        assert outer.current == 30 * FLOAT
        del y, z
        assert (inner.current, outer.current) == (0, 10 * FLOAT)


def test_checkpointed_layers_keep_only_their_input(device):
    layers = nn.Sequential(*(nn.Sigmoid() for _ in range(8)))  # each saves its result
    x = torch.zeros(1000, device=device, requires_grad=True)

    def run(*, recompute):
        with LiveBytes(x) as live:
            if recompute:
                out = checkpoint(layers, x, use_reentrant=False, preserve_rng_state=False)
            else:
                out = layers(x)
            kept = live.current - held_bytes(x)
            out.sum().backward()
            x.grad = None
        return kept, live.peak

    assert run(recompute=False)[0] == 8 * 1000 * FLOAT
    assert run(recompute=True)[0] == 1000 * FLOAT
    # While going back all results exist again, whether they were kept or made anew.
    assert run(recompute=True)[1] >= 9 * 1000 * FLOAT


def test_checkpointing_halves_lowers_the_peak(device):
    half = nn.Sequential(*(nn.Sigmoid() for _ in range(8)))
    x = torch.zeros(1000, device=device, requires_grad=True)
    peaks = []
    for recompute in (False, True):
        with LiveBytes(x) as live:
            out = x
            for _ in range(2):
                out = (
                    checkpoint(half, out, use_reentrant=False, preserve_rng_state=False)
                    if recompute
                    else half(out)
                )
            out.sum().backward()
            x.grad = out = None
        peaks.append(live.peak)
    assert peaks[1] < 0.75 * peaks[0]


def test_training_steps_on_meta_have_the_cpus_peak_to_the_byte():
    torch.set_num_threads(1)
    cpu, meta = (train_steps(device) for device in DEVICES)
    assert cpu == meta
    for _, current, held in cpu:
        assert current == held  # all else was freed
    assert cpu[0][0] < cpu[1][0] == cpu[2][0]  # the first step makes the momentum


def test_results_are_those_without_the_context():
    def trained(context):
        torch.manual_seed(0)
        network = small_network()
        images = torch.randn(4, 3, 17, 17)
        with context:
            network(images).square().sum().backward()
        return [parameter.grad for parameter in network.parameters()]

    plain = trained(torch.enable_grad())
    for left, right in zip(plain, trained(LiveBytes()), strict=True):
        assert torch.equal(left, right)


def test_held_bytes_counts_every_distinct_storage_once():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    numbers = 3 * 4 + 4 + 2 * 4
    buffers = 2 * 4 * FLOAT + LONG
    assert held_bytes(network) == numbers * FLOAT + buffers
    assert held_bytes(network, network, network[0].weight.t()) == held_bytes(network)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 3)).sum().backward()
    assert held_bytes(network) == 2 * numbers * FLOAT + buffers
    optimizer.step()
    steps = FLOAT * len(list(network.parameters()))  # Adam's step is a tensor
    assert held_bytes(network, optimizer) == 4 * numbers * FLOAT + buffers + steps
    assert held_bytes() == 0


def test_peak_memory_is_the_highest_sample_with_what_was_held():
    device = torch.device("cpu")
    held = torch.zeros(10, device=device)
    memory = PeakMemory(device)
    assert memory.peak_bytes == 0
    for size in (5, 20, 1):
        with memory.sample(held):
            torch.zeros(size, device=device)
    torch.zeros(1000, device=device)  # not sampled
    assert memory.peak_bytes == 30 * FLOAT
    assert memory.metrics() == {"peak_bytes": 30.0 * FLOAT}


def test_the_first_sample_on_meta_ends_the_work_with_its_peak():
    memory = PeakMemory(torch.device("meta"))
    with pytest.raises(Predicted, match="20 bytes") as ended, memory.sample():
        torch.zeros(5, device="meta")
    assert ended.value.peak_bytes == 5 * FLOAT


def test_peak_memory_goes_on_from_an_interrupted_part():
    memory = PeakMemory(torch.device("cpu"), before=100)
    with memory.sample():
        torch.zeros(5)
    assert memory.peak_bytes == 100
    with memory.sample():
        torch.zeros(50)
    assert memory.peak_bytes == 50 * FLOAT


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_allocator_measures_the_whole_phase():
    device = torch.device("cuda")
    torch.zeros(1 << 22, device=device)
    memory = PeakMemory(device)
    start = memory.peak_bytes
    torch.zeros(1 << 20, device=device)  # not sampled, and seen all the same
    with memory.sample():
        torch.zeros(1 << 10, device=device)
    metrics = memory.metrics()
    assert metrics["peak_bytes"] == memory.peak_bytes == start + (1 << 22)
    assert metrics["peak_reserved_bytes"] >= metrics["peak_bytes"]
    assert PeakMemory(device, before=1 << 50).peak_bytes == 1 << 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_live_bytes_on_cuda_agree_with_the_allocator():
    device = torch.device("cuda")
    base = torch.cuda.memory_allocated(device)
    x = torch.zeros(1 << 16, device=device, requires_grad=True)
    torch.cuda.reset_peak_memory_stats(device)
    with LiveBytes(x) as live:
        x.exp().exp().sum().backward()
    assert live.current == held_bytes(x)
    measured = torch.cuda.max_memory_allocated(device) - base
    assert abs(measured - live.peak) <= 8 * 512  # the allocator rounds up to 512 bytes
