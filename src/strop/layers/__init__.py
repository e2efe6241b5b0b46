"""The halves of a decoder block, each one autograd function, and the adapter linear they stand on."""
