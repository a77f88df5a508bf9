"""Classes of image files by an exported model: numpy, Pillow and onnxruntime are all it needs.

    pip install numpy pillow onnxruntime
    python predict_onnx.py exports/digits/model.onnx photo.jpg another.png
    python predict_onnx.py exports/digits/model.int8.onnx --json photo.jpg

The file says itself what it expects: how large a picture is, in how many channels, how it becomes
square, and what its classes are called. Copy this file and change it; the probabilities are those
of `crosstrain predict`, because pictures are decoded and resized here as they are there.
"""

import argparse
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import ExifTags, Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
TURNS = {  # EXIF orientation to the move that undoes it; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Model:
    """An exported model and what it says of itself."""

    def __init__(self, file: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        told = self.session.get_modelmeta().custom_metadata_map
        self.class_names: list[str] = json.loads(told["class_names"])
        self.input: dict[str, Any] = json.loads(told["input"])

    def predict(self, files: list[Path]) -> NDArray[np.float32]:
        """Probabilities (N, K) of image files."""
        batch = np.stack([fit(decode(f.read_bytes(), self.input), self.input) for f in files])
        found: NDArray[np.float32] = self.session.run(None, {self.input["name"]: batch})[0]
        return found


def decode(data: bytes, told: dict[str, Any]) -> Image.Image:
    """A picture, upright and opaque, of mode L or RGB, from the contents of a file.

    Raises:
        ValueError: the file is larger than the model's limits allow, or no such picture.
        OSError: it is damaged.
    """
    limits = told["limits"]
    if len(data) > limits["max_bytes"]:
        raise ValueError(f"{len(data)} bytes; at most {limits['max_bytes']} are allowed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > limits["max_pixels"]:
                raise ValueError(f"more than {limits['max_pixels']} pixels")
            if min(image.size) < limits["min_side"]:
                raise ValueError(f"a side is shorter than {limits['min_side']} pixels")
            image.load()
            return upright(eight_bit(image), image)


def eight_bit(image: Image.Image) -> Image.Image:
    """Mode L for a grey mode, else RGB; what is transparent shows white."""
    if image.mode[0] in "IF":
        return Image.fromarray(scaled(image))
    grey = image.mode in GREY
    target = "L" if grey else "RGB"
    if not image.has_transparency_data:
        return image.convert(target)
    layer = image.convert("LA" if grey else "RGBA")
    paper = Image.new(target, image.size, "white")
    paper.paste(layer.convert(target), mask=layer.getchannel("A"))
    return paper


def scaled(image: Image.Image) -> NDArray[np.uint8]:
    """16-bit grey divided by 257; floats within 0 to 1 times 255, within 0 to 255 rounded."""
    values: NDArray[Any] = np.asarray(image)
    low, high = values.min(), values.max()
    if not np.isfinite(values).all() or low < 0 or high > (255 if image.mode == "F" else 65535):
        raise ValueError(f"pixels from {low} to {high}")
    if image.mode == "F":
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    grey = ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return grey


def upright(pixels: Image.Image, stored: Image.Image) -> Image.Image:
    """Undo the rotation that the EXIF block announces."""
    try:
        turn = TURNS.get(stored.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block is no damage to the pixels
        return pixels
    return pixels if turn is None else pixels.transpose(turn)


def fit(image: Image.Image, told: dict[str, Any]) -> NDArray[np.uint8]:
    """The picture (C, S, S) uint8 as the model takes it."""
    mode, size = ("L" if told["channels"] == 1 else "RGB"), told["size"]
    image = image.convert("L") if mode == "L" else image
    square = {"crop": crop, "pad": pad, "stretch": stretch}[told["fit"]](image, size).convert(mode)
    pixels = np.asarray(square).reshape(size, size, told["channels"])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def crop(image: Image.Image, size: int) -> Image.Image:
    """The shorter side becomes ``size`` pixels, and the centre is kept."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def stretch(image: Image.Image, size: int) -> Image.Image:
    """Both sides become ``size`` pixels."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def pad(image: Image.Image, size: int) -> Image.Image:
    """The longer side becomes ``size`` pixels; the rest has the border's median colour."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    inner = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(inner).reshape(height, width, -1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = tuple(int(value) for value in np.median(border, axis=0))
    square = Image.new(inner.mode, (size, size), colour)
    square.paste(inner, ((size - width) // 2, (size - height) // 2))
    return square


def main() -> None:
    """Print the class of each file."""
    parser = argparse.ArgumentParser(description="Predict classes of image files.")
    parser.add_argument("model", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    model = Model(asked.model)
    for file in asked.files:
        try:
            probabilities = model.predict([file])[0].tolist()
        except (OSError, ValueError) as error:
            sys.exit(f"{file}: {error}")
        ranked = sorted(zip(probabilities, model.class_names, strict=True), reverse=True)
        if asked.json:
            told = {"file": str(file), "label": ranked[0][1], "probability": ranked[0][0]}
            print(json.dumps(told | {"probabilities": {name: p for p, name in ranked}}))
        else:
            print(f"{file}: {ranked[0][1]} ({100 * ranked[0][0]:.1f} %)")


if __name__ == "__main__":
    main()
