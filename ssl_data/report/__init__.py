"""One HTML file about a store: figures as pictures, sample patches, specs and provenance."""
