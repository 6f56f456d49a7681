"""One file per audience. A view decodes, calls one method, encodes; it holds no rules."""
