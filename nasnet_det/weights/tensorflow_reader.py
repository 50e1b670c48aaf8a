"""Write the numbers of a TensorFlow checkpoint to a safetensors file.

    python tensorflow_reader.py PREFIX OUT.safetensors

``tensorflow_checkpoint.py`` runs it as a program, so that TensorFlow and torch never share a
process. No graph is loaded and nothing of the checkpoint is executed. Exit status 3: TensorFlow
can't read it.
"""

import sys

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file


def main(prefix: str, out: str) -> int:
    """Run the command."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        arrays = {
            name: np.asarray(reader.get_tensor(name))
            for name, dtype in reader.get_variable_to_dtype_map().items()
            if dtype.is_floating or dtype.is_integer
        }
    except (tf.errors.OpError, LookupError, RuntimeError, ValueError):
        return 3
    save_file(arrays, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
