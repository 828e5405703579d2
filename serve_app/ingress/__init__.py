"""What runs in the ingress: parse, admit, decode, encode."""
