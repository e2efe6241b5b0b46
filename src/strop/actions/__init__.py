"""One function for each thing that strop does: plain values in, plain results out, progress given.

The command line shows these results on a terminal; another face shows them its own way. Each
function loads what it needs when it is called.
"""
