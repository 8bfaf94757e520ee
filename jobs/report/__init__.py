"""`dap report`: a run as a static site that opens from disk, with a 360° viewer."""
