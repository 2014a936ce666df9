"""Prints what TensorBoard's own reader finds in an event file or a folder of them, as JSON.

python read_tensorboard.py PATH

{"scalars": {tag: [{"step", "value"}]}, "images": {tag: [{"step", "width", "height", "format", "bytes"}]}}

Exit 1, with the reason on standard error, if a record is cut short or fails its checksum, if an
image does not decode, or if there is no event at all. TensorBoard itself stops at such a record
without a word, which is why the records are walked once before.
"""

import io
import json
import sys
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import errors, pywrap_tensorflow


class Unreadable(Exception):
    pass


def event_files(path):
    if path.is_dir():
        return sorted(p for p in path.iterdir() if "tfevents" in p.name)
    return [path] if path.is_file() else []


def walk(path):
    """Reads every record with TensorBoard's record reader, checksums included."""
    reader = pywrap_tensorflow.PyRecordReader_New(str(path).encode())
    count = 0
    while True:
        try:
            reader.GetNext()
        except errors.OutOfRangeError:
            break
        except errors.DataLossError as e:
            raise Unreadable(f"{path}: record {count}: {e.message}") from e
        event = event_pb2.Event.FromString(reader.record())
        if count == 0 and not event.file_version.startswith("brain.Event:"):
            raise Unreadable(f"{path}: the first record names no file version")
        count += 1
    if count == 0:
        raise Unreadable(f"{path}: no records")


def picture(data, where):
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return {"width": image.width, "height": image.height, "format": image.format, "bytes": len(data)}
    except Exception as e:
        raise Unreadable(f"{where}: not an image: {e}") from e


def contents(path):
    files = event_files(path)
    if not files:
        raise Unreadable(f"{path}: no event file")
    for file in files:
        walk(file)
    # Zero keeps every event; the default keeps a sample.
    accumulator = event_accumulator.EventAccumulator(
        str(path), size_guidance={k: 0 for k in event_accumulator.DEFAULT_SIZE_GUIDANCE}
    )
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {
        tag: [{"step": e.step, "value": e.value} for e in accumulator.Scalars(tag)] for tag in sorted(tags["scalars"])
    }
    images = {}
    for tag in sorted(tags["images"]):
        images[tag] = []
        for e in accumulator.Images(tag):
            found = picture(e.encoded_image_string, f"{path}: {tag} at step {e.step}")
            if (found["width"], found["height"]) != (e.width, e.height):
                raise Unreadable(
                    f"{path}: {tag} at step {e.step}: the event says {e.width}x{e.height}, the image {found}"
                )
            images[tag].append({"step": e.step, **found})
    # Writers of the newer summary interface store everything as tensors, marked by their plugin.
    for tag in sorted(tags["tensors"]):
        plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        for e in accumulator.Tensors(tag):
            if plugin == "scalars":
                value = e.tensor_proto.float_val[0] if e.tensor_proto.float_val else None
                if value is None:
                    raise Unreadable(f"{path}: {tag} at step {e.step}: not a float scalar")
                scalars.setdefault(tag, []).append({"step": e.step, "value": value})
            elif plugin == "images":
                # The first two strings are width and height.
                for data in e.tensor_proto.string_val[2:]:
                    found = picture(data, f"{path}: {tag} at step {e.step}")
                    images.setdefault(tag, []).append({"step": e.step, **found})
    return {"scalars": scalars, "images": images}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        found = contents(Path(sys.argv[1]))
    except Exception as e:
        print(e, file=sys.stderr)
        sys.exit(1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
