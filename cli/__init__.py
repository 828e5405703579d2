"""The `rayedit` command: the only place that knows engine and both doors."""
