"""Fine-tuning of InstructPix2Pix on triplets: what `training.train_pix2pix` is made of."""
