"""What both ends share (bundles, codecs, wire, control, links), and the server."""
