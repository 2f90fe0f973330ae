"""Columns in Iceberg's terms: types, and the field ids that stay with a name for as long as a table lives."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse.core.types import Type, decimal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.table.name_mapping import MappedField
    from pyiceberg.types import IcebergType

Path = tuple[str, ...]

_ELEMENT = "element"  # what the items of a list are called in paths
_SYSTEM = {"_lake_seq": 2_000_000_001, "_lake_deleted": 2_000_000_002}  # ids that no column reaches


@dataclass(slots=True, kw_only=True)
class FieldIds:
    """Field ids by path; the items of a list have the path of the list and `element`.

    Attributes:
        last: The greatest that was given so far.
        known: All that were given.
    """

    last: int
    known: dict[Path, int] = field(default_factory=dict)

    def know(self, kind: "IcebergType", path: Path) -> None:
        """Keep the ids that are in a type."""
        from pyiceberg.types import ListType, StructType

        if isinstance(kind, StructType):
            for one in kind.fields:
                self.known[*path, one.name] = one.field_id
                self.know(one.field_type, (*path, one.name))
        elif isinstance(kind, ListType):
            self.known[*path, _ELEMENT] = kind.element_id
            self.know(kind.element_type, (*path, _ELEMENT))

    def of(self, path: Path) -> int:
        """The id of a path, given now if it has none."""
        if path not in self.known:
            self.last += 1
            self.known[path] = self.last
        return self.known[path]

    def field(self, name: str, kind: Type, path: Path) -> Any:
        """A column, or a field of a struct, in Iceberg's terms."""
        from pyiceberg.types import NestedField

        mine = (*path, name)
        number = self.of(mine)
        return NestedField(number, name, self.type(kind, mine), required=False)

    def type(self, kind: Type, path: Path) -> "IcebergType":
        """A type in Iceberg's terms."""
        from pyiceberg.types import ListType, StructType

        if isinstance(kind, str):
            return _scalar(kind)
        if "list" in kind:
            item = (*path, _ELEMENT)
            number = self.of(item)
            return ListType(
                element_id=number, element_type=self.type(kind["list"], item), element_required=False
            )
        return StructType(*(self.field(name, inner, path) for name, inner in kind["struct"].items()))

    def mapping(self) -> str:
        """The mapping from names to ids, of all columns that there ever were.

        pyiceberg refuses a file that has a column without an id, so those have one that no table declares.
        """
        from pyiceberg.table.name_mapping import MappedField, NameMapping

        system = [MappedField.model_validate({"field-id": n, "names": [name]}) for name, n in _SYSTEM.items()]
        return NameMapping(root=[*self._mapped(()), *system]).model_dump_json()

    def _mapped(self, path: Path) -> "Iterator[MappedField]":
        from pyiceberg.table.name_mapping import MappedField

        for inner, number in self.known.items():
            if inner[:-1] == path:
                about = {"field-id": number, "names": [inner[-1]], "fields": list(self._mapped(inner))}
                yield MappedField.model_validate(about)


def _scalar(kind: str) -> "IcebergType":
    from pyiceberg import types

    shape = decimal(kind)
    if shape:
        return types.DecimalType(*shape)
    made: dict[str, type[IcebergType]] = {
        "null": types.StringType, "bool": types.BooleanType, "int32": types.IntegerType, "int64": types.LongType,
        "bigint": types.LongType, "float32": types.FloatType, "float64": types.DoubleType,
        "string": types.StringType, "binary": types.BinaryType, "date": types.DateType,
        "timestamp": types.TimestampType, "timestamptz": types.TimestamptzType,
    }  # fmt: skip
    return made[kind]()
