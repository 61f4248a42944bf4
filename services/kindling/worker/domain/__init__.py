"""Pure rules of the worker: generations, sampling parameters, instances."""
