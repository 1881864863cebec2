"""tutelage: knowledge distillation with many teachers and many paths."""
