"""The data factory: captions -> triplets of a picture, an instruction and the edited picture."""
