"""Where rows end up: one module per destination, one protocol for all."""
