"""The peers, one module each. A module has

- `NAME`, and `TOLERANCE`: the relative L2 error of centred logits up to which a time counts;
- `forms(net, batch)`: the ways to run a net that are worth trying, the plain one first;
- `export(exports, form, batch)`: writes the model files for a form (in a process of its own);
- `version()`: imports the engine's library and says which it is;
- `load(exports, form, batch, threads)`: a function from pictures to logits, both plain arrays.

Importing a module here imports no engine.
"""

from engines import mnn, ncnn, onnxruntime, openvino, pytorch

ENGINES = {engine.NAME: engine for engine in (onnxruntime, openvino, mnn, ncnn, pytorch)}
