"""Arrow arrays in whatever encoding, as one array of the plain type that a type of the format lies in."""

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.parquet.arrow import arrow_type, widen


def decoded(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array without chunks, dictionaries, run ends, views, large offsets and extension types."""
    if isinstance(array, pa.ChunkedArray):
        array = _joined(array)
    while True:
        kind = array.type
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            array = pc.run_end_decode(array)
        else:
            break
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return array.cast(pa.binary())
    return array


def plain(array: pa.Array | pa.ChunkedArray, kind: str) -> pa.Array:
    """The values in the Arrow type of a type of the format that is not nested.

    Args:
        array: Values of that type, or of one that it holds. For `json` text is JSON text.
        kind: The type.
    """
    found = decoded(array)
    if kind == "json":
        return found if pa.types.is_string(found.type) else _as_json(found)
    want = arrow_type(kind)
    if found.type == want:
        return found
    return pa.nulls(len(found), want) if pa.types.is_null(found.type) else widen(found, kind)


def listed(array: pa.Array) -> pa.Array:
    """An array of lists of any layout, as `list`."""
    if pa.types.is_list(array.type):
        return array
    if pa.types.is_list_view(array.type):  # casting a slice of one gives a broken array
        return pa.array(array.to_pylist(), type=pa.list_(array.type.value_type))
    return array.cast(pa.list_(array.type.value_type))


def _joined(array: pa.ChunkedArray) -> pa.Array:
    if array.num_chunks == 1:
        return array.chunk(0)
    if array.num_chunks == 0:
        return pa.array([], type=array.type)
    if pa.types.is_dictionary(array.type):
        return pa.concat_arrays([chunk.dictionary_decode() for chunk in array.chunks])
    return pa.concat_arrays(array.chunks)


def _as_json(array: pa.Array) -> pa.Array:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.string())
    return widen(array, "json").storage
