import numpy as np
import pytest
import torch
from PIL import Image

from zostudy.config.settings import DatasetSettings
from zostudy.data.dataset import load
from zostudy.data.folders import image_folder, outline_image_folder
from zostudy.errors import ConfigError, DataError


def pixels(seed, shape=(10, 12, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of colour pictures, 12 wide and 10 high: three cats, four dogs."""
    for name, count in (("dog", 4), ("cat", 3)):
        for index in range(count):
            save(tmp_path / "own" / name / f"{index}.png", pixels(index + 10 * count))
    return tmp_path / "own"


def test_class_folders_give_labels_and_pixels_in_the_order_of_names(folder):
    source = image_folder(root=str(folder))
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert source.train.images.shape == (7, 3, 10, 12)
    assert np.array_equal(source.train.images[4].permute(1, 2, 0), pixels(41))
    assert source.test is None


def test_train_and_test_folders_keep_their_own_test_part(tmp_path):
    for name in ("a", "b", "c"):
        for index in range(2):
            save(tmp_path / "train" / name / f"{index}.png", pixels(index))
    save(tmp_path / "test" / "c" / "0.png", pixels(9))
    source = image_folder(root=str(tmp_path))
    assert source.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.test.labels.tolist() == [2]
    assert np.array_equal(source.test.images[0].permute(1, 2, 0), pixels(9))


def test_a_train_folder_without_a_test_folder_has_no_test_part(folder, tmp_path):
    (tmp_path / "parts").mkdir()
    folder.rename(tmp_path / "parts" / "train")
    assert image_folder(root=str(tmp_path / "parts")).test is None


def test_a_class_may_be_called_train(folder):
    (folder / "dog").rename(folder / "train")
    assert image_folder(root=str(folder)).classes == ("cat", "train")


def test_hidden_files_and_other_files_are_ignored(folder):
    (folder / ".cache").mkdir()
    (folder / "cat" / ".hidden.png").write_bytes(b"no picture")
    (folder / "cat" / "notes.txt").write_text("no picture")
    (folder / "README.md").write_text("no class")
    assert len(image_folder(root=str(folder)).train) == 7


def test_grey_files_stay_grey_unless_one_is_coloured(folder):
    for path in folder.rglob("*.png"):
        save(path, pixels(1, (10, 12)))
    grey = image_folder(root=str(folder)).train.images
    assert grey.shape[1] == 1
    assert np.array_equal(grey[0, 0], pixels(1, (10, 12)))
    assert image_folder(root=str(folder), channels="colour").train.images.shape[1] == 3
    save(folder / "dog" / "0.png", pixels(2))
    mixed = image_folder(root=str(folder)).train.images
    assert mixed.shape[1] == 3
    assert torch.equal(mixed[0, 0], grey[0, 0])
    assert torch.equal(mixed[0, 0], mixed[0, 2])


def test_colour_pictures_can_be_read_in_grey(folder):
    images = image_folder(root=str(folder), channels="grey").train.images
    assert images.shape == (7, 1, 10, 12)
    assert np.array_equal(images[0, 0], np.asarray(Image.fromarray(pixels(30)).convert("L")))


def test_sixteen_bit_pictures_keep_their_upper_byte(folder):
    for path in folder.rglob("*.png"):
        save(path, pixels(1, (10, 12)).astype(np.uint16) * 256 + 77)
    images = image_folder(root=str(folder)).train.images
    assert np.array_equal(images[0, 0], pixels(1, (10, 12)))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        (".png", "1"),
        (".png", "P"),
        (".png", "LA"),
        (".PNG", "RGBA"),
        (".jpg", "L"),
        (".jpeg", "CMYK"),
        (".tif", "CMYK"),
        (".tiff", "RGBA"),
        (".gif", "P"),
        (".bmp", "RGB"),
        (".webp", "RGBA"),
        (".pgm", "L"),
        (".ppm", "RGB"),
    ],
)
def test_every_usual_format_and_pixel_type_is_read(folder, suffix, mode):
    plain = np.full((10, 12, 3), 255, np.uint8)
    Image.fromarray(plain).convert(mode).save(folder / "cat" / f"other{suffix}")
    images = image_folder(root=str(folder)).train.images
    assert images.shape == (8, 3, 10, 12)
    assert int(images[3].min()) >= 250


def test_resize_brings_pictures_of_any_size_to_a_centred_square(folder):
    square = np.zeros((40, 20, 3), np.uint8)
    square[10:30] = 200  # the largest centred square
    save(folder / "cat" / "tall.png", square)
    images = image_folder(root=str(folder), resize=8).train.images
    assert images.shape == (8, 3, 8, 8)
    assert np.allclose(images[3, :, 1:-1], 200, atol=4)


def test_a_large_jpeg_is_resized_as_if_decoded_whole(folder):
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    whole = Image.fromarray(np.repeat(np.repeat(ramp[:, None], 800, 1)[..., None], 3, 2))
    whole.save(folder / "cat" / "9.jpg", quality=95)
    image = image_folder(root=str(folder), resize=16).train.images[3].permute(1, 2, 0)
    assert np.allclose(image, np.asarray(whole.resize((16, 16))), atol=3)


def test_a_rotated_photograph_is_turned_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(pixels(3, (12, 10, 3))).save(folder / "cat" / "turned.jpg", exif=exif)
    assert image_folder(root=str(folder)).train.images.shape == (8, 3, 10, 12)


def test_pictures_of_two_sizes_name_the_first_offender_and_the_way_out(folder):
    save(folder / "dog" / "1.png", pixels(1, (16, 12, 3)))
    save(folder / "dog" / "2.png", pixels(1, (16, 16, 3)))
    message = r"dog/1\.png has 12×16 pixels, .*cat/0\.png has 12×10; set dataset\.resize"
    with pytest.raises(DataError, match=message):
        image_folder(root=str(folder))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is no folder; needs a folder of class folders"):
        image_folder(root=str(tmp_path / "nowhere"))


def test_a_folder_with_one_class_is_refused(folder):
    (folder / "dog").rename(folder / ".dog")
    with pytest.raises(DataError, match=r"own: class folders: 'cat'; needs at least 2"):
        image_folder(root=str(folder))


def test_a_folder_of_loose_pictures_is_refused(folder):
    with pytest.raises(DataError, match=r"cat: class folders: none; needs at least 2"):
        image_folder(root=str(folder / "cat"))


def test_a_class_with_one_picture_is_refused(folder):
    save(folder / "bird" / "0.png", pixels(0))
    with pytest.raises(DataError, match=r"bird: class 'bird' has 1 picture; needs at least 2"):
        image_folder(root=str(folder))


def test_a_class_without_pictures_is_refused(folder):
    (folder / "bird").mkdir()
    with pytest.raises(DataError, match=r"bird holds no pictures; allowed: \.apng, \.avif, \.bmp"):
        image_folder(root=str(folder))


@pytest.mark.parametrize("content", [b"", b"no picture at all", "half"])
def test_a_corrupt_picture_is_named(folder, content):
    path = folder / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:200] if content == "half" else content)
    with pytest.raises(DataError, match=r"dog/2\.png cannot be read as a picture") as caught:
        image_folder(root=str(folder))
    assert "\n" not in str(caught.value)


def test_a_truncated_jpeg_is_named(folder):
    path = save(folder / "dog" / "5.jpg", pixels(0, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"dog/5\.jpg cannot be read as a picture"):
        image_folder(root=str(folder), resize=8)


def test_pixels_without_a_range_are_refused(folder):
    Image.fromarray(np.zeros((10, 12), np.float32)).save(folder / "dog" / "5.tif")
    with pytest.raises(DataError, match=r"5\.tif cannot be read .*mode 'F' have no fixed range"):
        image_folder(root=str(folder))


def test_every_picture_that_cannot_be_read_is_counted_and_the_first_are_named(folder):
    for index in range(7):
        (folder / "dog" / f"bad{index}.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        image_folder(root=str(folder))
    lines = str(caught.value).splitlines()
    assert [line.split("dog/")[1][:4] for line in lines[:5]] == [
        "bad0",
        "bad1",
        "bad2",
        "bad3",
        "bad4",
    ]
    assert lines[5] == (
        "dataset.root: 7 of 14 pictures cannot be read, 2 more than are named here; mend or remove "
        "them"
    )
    with pytest.raises(DataError, match=r"7 of 14 pictures cannot be read"):
        outline_image_folder(root=str(folder), resize=0, channels="grey")


def test_a_first_picture_that_is_damaged_hides_no_other(folder):
    for name in ("cat/0.png", "dog/2.png"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cat/0\.png .*\n.*dog/2\.png .*\n.*2 of 7 pictures"):
        image_folder(root=str(folder))


def test_remarks_say_how_transparent_deep_and_moving_pictures_are_read(folder):
    image = Image.fromarray(pixels(0))
    image.convert("RGBA").save(folder / "cat" / "a.png")
    frames = [Image.fromarray(pixels(seed)) for seed in (1, 2)]
    image.save(folder / "cat" / "b.gif", save_all=True, append_images=frames)
    deep = pixels(0, (10, 12)).astype(np.uint16) * 16
    Image.fromarray(deep).save(folder / "cat" / "c.png")
    highest = int(deep.max())
    source = image_folder(root=str(folder))
    assert source.reading.remarks == (
        f"1 picture may hold 16 bits a pixel; the highest value is {highest:,}, so that the upper "
        "8 of 12 bits are kept",
        "1 picture may have transparent parts; these are shown on white",
        "of 1 file with several frames or pages the first is read",
    )
    outline = outline_image_folder(root=str(folder), resize=0, channels="as_stored")
    assert outline.reading == source.reading


@pytest.fixture
def parts(folder, tmp_path):
    root = tmp_path / "parts"
    root.mkdir()
    folder.rename(root / "train")
    save(root / "test" / "cat" / "0.png", pixels(0))
    return root


def test_a_test_class_that_training_lacks_is_refused(parts):
    (parts / "test" / "cat").rename(parts / "test" / "catt")
    with pytest.raises(DataError, match=r"test/catt has no class in 'train'; did you mean 'cat'"):
        image_folder(root=str(parts))


def test_a_test_folder_without_classes_is_refused(parts):
    (parts / "test" / "cat").rename(parts / "test" / ".cat")
    with pytest.raises(DataError, match=r"test holds no class folders"):
        image_folder(root=str(parts))


def test_a_third_part_is_refused_rather_than_ignored(parts):
    save(parts / "val" / "cat" / "0.png", pixels(0))
    with pytest.raises(DataError, match=r"holds 'val' beside 'train'; allowed beside it: 'test'"):
        image_folder(root=str(parts))


def test_a_root_left_out_is_a_config_error():
    with pytest.raises(ConfigError, match=r"dataset\.root: 'image_folder' needs this option"):
        load(DatasetSettings(name="image_folder"))
