"""rayedit's offline door: a Parquet manifest in, images and a ledger out, through Ray Data."""
