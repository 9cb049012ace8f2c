"""A small directory of images, in the layout of ImageNet's."""

from pathlib import Path

from PIL import Image

COLOURS = {"n01": (255, 0, 51), "n02": (0, 102, 204), "n03": (17, 34, 68)}


def directory(root: Path, each: int = 2) -> Path:
    """Writes three classes of images in ImageNet's layout. Each class has one colour; its images
    are landscape and portrait in turn."""
    for name, colour in COLOURS.items():
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for k in range(each):
            size = (40, 30) if k % 2 else (25, 50)
            Image.new("RGB", size, colour).save(folder / f"{name}_{k}.PNG")
    (root / "val" / "n01").mkdir(parents=True)
    (root / "val" / "n01" / "x.png").write_bytes(b"not looked at")
    return root
