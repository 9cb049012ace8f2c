"""Networks made of any torch modules, trained by the same equations as the stacks of MNIST."""
