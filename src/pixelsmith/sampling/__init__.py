"""The method of the paper as pure functions of tensors, without files, model libraries or a choice of device."""
