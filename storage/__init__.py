"""Files wherever they are: on a disk, in an object store, on the hub."""
