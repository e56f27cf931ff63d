"""What a user writes with: modules, layers, losses, optimisers, ``compile`` and ``fit``. ``graphc`` re-exports it."""
