"""The packed checkpoint format: manifest, layout, writer, reader, conversion from Hugging Face directories."""
