"""The dial at Full for containers of a real Docker Engine, which all tests here share."""
