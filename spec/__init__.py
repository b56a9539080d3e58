"""WHAT is promised: executable formal models, one module per protocol, every published variant as base + change."""
