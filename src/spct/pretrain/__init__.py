"""How the shipped toy base models are made: a corpus, a tokenizer and a pretraining loop."""
