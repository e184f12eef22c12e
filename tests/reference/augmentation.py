"""Augmentation of one picture at a time, pixel by pixel, on plain nested lists."""


def augmented(picture, padding, offset, flipped, mean, std):
    """Crop of a zero-padded picture, flipped, then normalized.

    `picture` is channels × height × width of 0..255; `offset` is (row, column) of the crop's corner
    in the padded picture.
    """
    result = []
    for channel, centre, spread in zip(picture, mean, std, strict=True):
        height, width = len(channel), len(channel[0])
        rows = []
        for row in range(height):
            line = []
            for column in range(width):
                y = row + offset[0] - padding
                x = column + offset[1] - padding
                inside = 0 <= y < height and 0 <= x < width
                line.append(channel[y][x] if inside else 0)
            if flipped:
                line.reverse()
            rows.append([(value / 255 - centre) / spread for value in line])
        result.append(rows)
    return result


def cut_out(picture, side, centre):
    """The picture with a square of zeros whose rows and columns start side // 2 before `centre`."""
    top, left = centre[0] - side // 2, centre[1] - side // 2
    return [
        [
            [
                0.0 if top <= y < top + side and left <= x < left + side else value
                for x, value in enumerate(line)
            ]
            for y, line in enumerate(channel)
        ]
        for channel in picture
    ]
