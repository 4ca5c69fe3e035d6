"""Run folders, their ids, and a rebuildable index over them."""

from engram.store.folders import (
    LOG,
    RECORD,
    TARGET,
    DiskFullError,
    default_root,
    disk_errors,
    is_complete,
    load_record,
    read_json,
    run_id,
    save_record,
    write_json,
)
from engram.store.index import Row, add, expect, reindex, rows

__all__ = [
    "LOG", "RECORD", "TARGET", "DiskFullError", "Row", "add", "default_root", "disk_errors",
    "expect", "is_complete", "load_record", "read_json", "reindex", "rows", "run_id", "save_record",
    "write_json",
]  # fmt: skip
