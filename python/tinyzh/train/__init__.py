"""Making a story model from text: drawing stories, training, exporting."""
