"""How each inference engine is called: weights are constants of a model, prepared when it is made.

Each model is one convolution in float32, made here without any converter. All but onnxruntime
would take float16, bfloat16 or less precise products where they may: they may not. What runs in
`prepared` goes from the input in the engine's own array to the output in one of its own.
"""

import tempfile
from pathlib import Path

import numpy as np


class Onnxruntime:
    def __init__(self, threads):
        import onnx.helper
        import onnx.numpy_helper
        import onnxruntime

        self.onnx = onnx
        self.ort = onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def conv(self, row, which, x, w, dy):
        if which != "prepared":
            return None
        helper = self.onnx.helper
        number = helper.np_dtype_to_tensor_dtype(x.dtype)
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            group=row.groups,
            strides=[row.stride] * row.rank,
            pads=[row.padding] * 2 * row.rank,
            dilations=[row.dilation] * row.rank,
        )
        graph = helper.make_graph(
            [node],
            row.name,
            [helper.make_tensor_value_info("x", number, x.shape)],
            [helper.make_tensor_value_info("y", number, dy.shape)],
            [self.onnx.numpy_helper.from_array(w, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        try:
            session = self.ort.InferenceSession(
                model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
            )
        except self.ort.capi.onnxruntime_pybind11_state.NotImplemented:  # float64 has no kernel
            return None
        return lambda: session.run(None, {"x": x})[0]


class Openvino:
    def __init__(self, threads):
        import openvino
        from openvino import opset13

        self.openvino, self.opset = openvino, opset13
        self.core = openvino.Core()
        self.settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }

    def conv(self, row, which, x, w, dy):
        if which != "prepared" or x.dtype != np.float32:
            return None
        each = [1] * row.rank
        geometry = [[n * one for one in each] for n in (row.stride, row.padding, row.dilation)]
        strides, pads, dilations = geometry
        given = self.opset.parameter(x.shape, np.float32, name="x")
        if row.groups == 1:
            convolution = self.opset.convolution
        else:
            convolution = self.opset.group_convolution
            w = w.reshape(row.groups, -1, *w.shape[1:])
        result = convolution(given, self.opset.constant(w), strides, pads, pads, dilations)
        model = self.openvino.Model([result], [given], row.name)
        request = self.core.compile_model(model, "CPU", self.settings).create_infer_request()
        request.set_input_tensor(self.openvino.Tensor(x))
        output = request.get_output_tensor()

        def run():
            request.infer()
            return output.data

        return run


class Ncnn:
    """Its images have no batch: one after the other. A signal is an image of height 1, for which
    its kernels are twice as fast as those for signals. With its pools for memory, as it advises.
    """

    def __init__(self, threads):
        import ncnn

        self.ncnn, self.threads = ncnn, threads
        self.pools = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()

    def conv(self, row, which, x, w, dy):
        if which != "prepared" or x.dtype != np.float32:
            return None
        if row.rank == 1:
            x, w = x[:, :, None], w[:, :, None]
        settings = {0: w.shape[0], 6: w.size, 7: row.groups}
        for axis, kernel in enumerate(reversed(w.shape[2:])):  # width first
            padding = row.padding if axis < row.rank else 0
            settings |= {10 * axis + 1: kernel, 10 * axis + 2: row.dilation}
            settings |= {10 * axis + 3: row.stride, 10 * axis + 4: padding}
        words = " ".join(f"{key}={value}" for key, value in settings.items())
        layer = f"Convolution{'DepthWise' * (row.groups > 1)}{'3D' * (row.rank == 3)}"
        net = self.ncnn.Net()
        self.settle(net.opt)
        with tempfile.TemporaryDirectory() as folder:
            text, weights = Path(folder, "conv.param"), Path(folder, "conv.bin")
            text.write_text(f"7767517\n2 2\nInput x 0 1 x\n{layer} y 1 1 x y {words}\n")
            weights.write_bytes(bytes(4) + w.tobytes())  # a tag of 0: float32
            if net.load_param(str(text)) or net.load_model(str(weights)):
                return None
        images = [self.ncnn.Mat(image).clone() for image in x]

        def run(image):
            extractor = net.create_extractor()
            extractor.input("x", image)
            return extractor.extract("y")[1]

        return lambda: [run(image) for image in images]

    def settle(self, options):
        options.num_threads = self.threads
        options.blob_allocator, options.workspace_allocator = self.pools
        for name in dir(options):
            if any(kind in name for kind in ("fp16", "bf16", "int8")):
                setattr(options, name, False)

    def arrays(self, images):
        return [np.stack([np.array(image) for image in images])]


class Mnn:
    def __init__(self, threads):
        import MNN

        self.mnn = MNN
        self.settings = {"backend": "CPU", "numThread": threads, "precision": "high"}

    def conv(self, row, which, x, w, dy):
        if which != "prepared" or x.dtype != np.float32 or row.rank == 3:
            return None
        F = self.mnn.expr
        line = [1] * (2 - row.rank)  # one dimension is an image of height 1
        stride, padding, dilation = (
            [*[n] * row.rank, *(default for _ in line)]  # width first
            for n, default in ((row.stride, 1), (row.padding, 0), (row.dilation, 1))
        )
        shapes = [[*a.shape[:2], *line, *a.shape[2:]] for a in (x, w, dy)]
        given = F.placeholder(shapes[0], F.NCHW, F.float)
        given.name = "x"
        weight = F.const(w, shapes[1], F.NCHW, F.float)
        bias = F.const([0.0] * w.shape[0], [w.shape[0]], F.NCHW, F.float)
        geometry = stride, padding, dilation, row.groups, F.Padding_Mode.CAFFE
        result = F.conv2d(F.convert(given, F.NC4HW4), weight, bias, *geometry)
        result = F.convert(result, F.NCHW)
        result.name = "y"
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "conv.mnn"))
            F.save([result], path)
            interpreter = self.mnn.Interpreter(path)
        session = interpreter.createSession(self.settings)
        kind = self.mnn.Halide_Type_Float, x, self.mnn.Tensor_DimensionType_Caffe
        image = self.mnn.Tensor(tuple(shapes[0]), *kind)
        input = interpreter.getSessionInput(session, "x")
        output = interpreter.getSessionOutput(session, "y")

        def run():
            input.copyFrom(image)  # the session takes the input's memory for other things
            interpreter.runSession(session)
            return output

        return run

    def arrays(self, output):
        return [np.array(output.getNumpyData())]
