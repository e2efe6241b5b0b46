"""Writers of safetensors: adapter, merged weights, bitsandbytes folders."""
