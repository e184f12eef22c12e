"""Channels that are chosen by attention, in the plainest torch: one picture and channel at a time.

Written from the formula σ(conv1d(global average pooling)) alone, for comparison.
"""

import torch
from torch.nn import functional


def attention(x, kernel):
    """σ of the sum of each channel's neighbours' means, times the kernel; outside there is 0."""
    means = x.mean(dim=(2, 3))
    reach = len(kernel) // 2
    columns = []
    for channel in range(x.shape[1]):
        total = torch.zeros_like(means[:, 0])
        for place, weight in enumerate(kernel):
            neighbour = channel + place - reach
            if 0 <= neighbour < x.shape[1]:
                total = total + weight * means[:, neighbour]
        columns.append(1 / (1 + torch.exp(-total)))
    return torch.stack(columns, dim=1)


def in_place(x, kernel, k, stride, mix):
    """An edge: the C/k channels of most attention go through `mix`, the others by it."""
    weights = attention(x, kernel)
    scaled = x * weights[:, :, None, None]
    mean = weights.detach().mean(dim=0).tolist()
    chosen = sorted(sorted(range(len(mean)), key=lambda c: (-mean[c], c))[: len(mean) // k])
    total = mix(torch.stack([scaled[:, c] for c in chosen], dim=1))
    if stride == 2:
        scaled = functional.max_pool2d(scaled, 2, 2, ceil_mode=True)
    channels = list(scaled.unbind(dim=1))
    for place, channel in enumerate(chosen):
        channels[channel] = 0 * channels[channel]
        if isinstance(total, torch.Tensor):  # without operations it is 0
            channels[channel] = total[:, place]
    return torch.stack(channels, dim=1)
