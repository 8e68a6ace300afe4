"""The optimized SAN-M stacks give what FunASR's own forward gives, and leave the modules as they are."""

import copy
import re

import pytest
import torch
from torch import nn

from plugins.paraformer import tiny
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import instructions, onednn
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.qparams import compute_qparams
from sottovoce_paraformer import sanm, sanm_layers
from sottovoce_paraformer.sanm import DecoderStack, EncoderStack, optimize_for_inference

pytestmark = pytest.mark.skipif(not onednn.supported(), reason="this CPU or this PyTorch has no fast u8 by s8 product")

LENGTHS = [60, 31, 7]
TOKENS = [9, 4, 1]
WIDTH = 32


def quantize(module, pattern=r".*\.(self_attn|src_attn|feed_forward)\.\w+"):
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.Linear) and re.fullmatch(pattern, name):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, Int8Linear.from_float(child))
    return module


def weight_only(module, bits, scale=1.0):
    """The same layers with 8 bits by channel or 4 by group, and float inputs."""
    scheme = Scheme(bits=bits, group_size=16 if bits == 4 else None, symmetric=bits == 8)
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.Linear) and re.fullmatch(r".*\.(self_attn|src_attn|feed_forward)\.\w+", name):
            weight = child.weight.detach() * scale
            qparams = compute_qparams(weight, scheme)
            replace_(module, name, from_quantized(child, qparams.quantize(weight), qparams))
    return module


def build(kind="Paraformer", **encoder):
    form = tiny.config(kind)
    form["encoder_conf"].update(encoder)
    return tiny._module(form, seed=0)


@pytest.fixture(params=tiny.KINDS)
def kind(request):
    return request.param


@pytest.fixture
def pair():
    """An int8 model as FunASR runs it, and the same optimized."""
    module = quantize(build())
    optimized = copy.deepcopy(module)
    assert optimize_for_inference(optimized)
    return module, optimized


@pytest.fixture
def exact(monkeypatch):
    """Attention in float32: what is left is the order of additions, and values between two steps."""
    monkeypatch.setattr(instructions, "bfloat16", lambda: False)


def speech(lengths, seed=0):
    x = torch.randn(len(lengths), max(lengths), tiny.FEATURES, generator=torch.Generator().manual_seed(seed))
    for one, length in zip(x, lengths, strict=True):
        one[length:] = 0
    return x, torch.tensor(lengths, dtype=torch.int32)


def run(module, lengths, tokens):
    """Encoder output and decoder output of random features and embeddings."""
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(len(tokens), max(tokens), WIDTH, generator=generator)
    more = {}
    if type(module).__name__ == "ContextualParaformer":
        more["contextual_info"] = torch.randn(len(tokens), 3, WIDTH, generator=generator)
    with torch.no_grad():
        encoded, encoded_lengths = module.encode(*speech(lengths))
        assert encoded_lengths.tolist() == lengths
        decoded = module.decoder(encoded, encoded_lengths, embeddings, torch.tensor(tokens), **more)[0]
    return encoded, decoded


def error(got, want, lengths):
    """Largest difference at valid positions, as a share of the largest value."""
    return max(
        float((a[:n] - b[:n]).abs().max() / b[:n].abs().max()) for a, b, n in zip(got, want, lengths, strict=True)
    )


def stacks(module):
    return [child for child in module.modules() if isinstance(child, sanm.Stack)]


@pytest.mark.parametrize(
    ("lengths", "tokens"), [(LENGTHS[:1], TOKENS[:1]), (LENGTHS, TOKENS), ([40, 40], [5, 5]), ([700, 300], [9, 4])]
)
def test_outputs_are_those_of_funasr(kind, lengths, tokens):
    module = quantize(build(kind))
    optimized = copy.deepcopy(module)
    assert optimize_for_inference(optimized)
    for got, want, valid in zip(
        run(optimized, lengths, tokens), run(module, lengths, tokens), (lengths, tokens), strict=True
    ):
        assert got.shape == want.shape
        assert error(got, want, valid) < 0.06


@pytest.mark.parametrize("bits", [4, 8])
def test_weight_only_layers_run_by_int8_products(kind, bits):
    module = weight_only(build(kind), bits)
    optimized = copy.deepcopy(module)
    changes = optimize_for_inference(optimized)
    assert any("in int8 by oneDNN" in line for line in changes)
    for got, want, valid in zip(
        run(optimized, LENGTHS, TOKENS), run(module, LENGTHS, TOKENS), (LENGTHS, TOKENS), strict=True
    ):
        # Inputs have 8 bits beside 4, and 16 beside 8: what is left then is the order of additions.
        assert error(got, want, valid) < (0.06 if bits == 4 else 1e-3)
    assert optimized.state_dict().keys() == module.state_dict().keys()
    assert all(stored.equal(module.state_dict()[name]) for name, stored in optimized.state_dict().items())


def test_weight_only_layers_that_are_loaded_later_count():
    one, other = weight_only(build(), 8), weight_only(build(), 8, scale=0.5)
    optimized = copy.deepcopy(one)
    optimize_for_inference(optimized)
    run(optimized, LENGTHS, TOKENS)
    optimized.load_state_dict(other.state_dict())
    for got, want, valid in zip(
        run(optimized, LENGTHS, TOKENS), run(other, LENGTHS, TOKENS), (LENGTHS, TOKENS), strict=True
    ):
        assert error(got, want, valid) < 1e-3


def test_without_bfloat16_and_padding_they_are_nearly_equal(pair, exact):
    module, optimized = pair
    for got, want in zip(run(optimized, LENGTHS[:1], TOKENS[:1]), run(module, LENGTHS[:1], TOKENS[:1]), strict=True):
        # A value between two steps may fall to either, in one layer; it is the mean that shows a mistake.
        assert (got - want).abs().mean() < 2e-3 * want.abs().max()


def test_seaco_decoder_takes_one_utterance_many_times(exact):
    module = quantize(build("SeacoParaformer"))
    optimized = copy.deepcopy(module)
    assert sum("seaco_decoder" in line for line in optimize_for_inference(optimized)) == 2
    generator = torch.Generator().manual_seed(2)
    hotwords, hidden = torch.randn(1, 5, WIDTH, generator=generator), torch.randn(1, 12, WIDTH, generator=generator)
    arguments = hotwords, torch.tensor([5]), hidden, torch.tensor([12])
    with torch.no_grad():
        got, want = optimized.seaco_decoder(*arguments)[0], module.seaco_decoder(*arguments)[0]
    assert error(got, want, [12]) < 0.06


def test_padding_does_not_change_a_result(pair):
    _, optimized = pair
    x, lengths = speech([30])
    with torch.no_grad():
        alone, _ = optimized.encode(x, lengths)
        # The second one is silent and short, so that it adds nothing to the range of the activations.
        both, _ = optimized.encode(torch.cat([x, torch.zeros_like(x)]), torch.tensor([30, 1], dtype=torch.int32))
    assert error(both[:1], alone, [30]) < 0.06
    with torch.no_grad():
        noisy = torch.cat([x, torch.zeros_like(x)])
        noisy[1, 1:] = 1e4
        assert torch.equal(optimized.encode(noisy, torch.tensor([30, 1], dtype=torch.int32))[0], both)


def test_shifted_memory(exact):
    module = quantize(build(sanm_shfit=5))
    optimized = copy.deepcopy(module)
    optimize_for_inference(optimized)
    (got, _), (want, _) = run(optimized, LENGTHS, TOKENS), run(module, LENGTHS, TOKENS)
    assert error(got, want, LENGTHS) < 0.06


def test_what_is_stored_does_not_depend_on_it(pair):
    module, optimized = pair
    run(optimized, LENGTHS, TOKENS)
    got, want = optimized.state_dict(), module.state_dict()
    assert list(got) == list(want)
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert [name for name, _ in optimized.named_modules()] == [name for name, _ in module.named_modules()]
    assert all(isinstance(a, type(b)) for a, b in zip(optimized.modules(), module.modules(), strict=True))


def test_optimizing_twice_changes_nothing(pair):
    _, optimized = pair
    classes = [type(child) for child in optimized.modules()]
    assert optimize_for_inference(optimized) == ()
    assert [type(child) for child in optimized.modules()] == classes


def test_it_says_what_it_did():
    assert optimize_for_inference(quantize(build())) == (
        "encoder.encoders0: 1 of 1 layer in int8 by oneDNN",
        "encoder.encoders: 1 of 1 layer in int8 by oneDNN",
        "decoder.decoders: 2 of 2 layers in int8 by oneDNN",
        "decoder.decoders3: 1 of 1 layer in int8 by oneDNN",
        "decoder.output_layer: runs in float by oneDNN",
    )


def test_copies_run_by_themselves(pair):
    _, optimized = pair
    want = run(optimized, LENGTHS, TOKENS)
    twin = copy.deepcopy(optimized)
    for child in optimized.modules():
        if isinstance(child, Int8Linear):
            child.unpack_().weight.zero_()
    assert all(torch.equal(a, b) for a, b in zip(run(twin, LENGTHS, TOKENS), want, strict=True))
    assert not torch.equal(run(optimized, LENGTHS, TOKENS)[0], want[0])


def test_weights_that_are_loaded_later_count(pair):
    module, optimized = pair
    run(optimized, LENGTHS, TOKENS)
    other = quantize(tiny._module(tiny.config(), seed=1))
    optimized.load_state_dict(other.state_dict())
    fresh = copy.deepcopy(other)
    optimize_for_inference(fresh)
    for got, want in zip(run(optimized, LENGTHS, TOKENS), run(fresh, LENGTHS, TOKENS), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.encoders.0.feed_forward.w_2",
        "encoder.encoders0.0.self_attn.linear_q_k_v",
        "decoder.decoders.1.src_attn.linear_k_v",
        "encoder.encoders.0",
        "decoder.decoders.0",
    ],
)
def test_layers_that_are_put_in_later_count(pair, name):
    _, optimized = pair
    before = run(optimized, LENGTHS, TOKENS)
    other = quantize(tiny._module(tiny.config(), seed=1))
    parent, _, last = name.rpartition(".")
    setattr(optimized.get_submodule(parent), last, other.get_submodule(name))
    fresh = copy.deepcopy(optimized)  # a copy makes its own plan
    after = run(optimized, LENGTHS, TOKENS)
    for got, want in zip(after, run(fresh, LENGTHS, TOKENS), strict=True):
        assert torch.equal(got, want)
    assert not torch.equal(after[1], before[1])


def test_training_may_change_the_memory(pair):
    _, optimized = pair
    run(optimized, LENGTHS, TOKENS)
    optimized.train()
    with torch.no_grad():
        for child in optimized.modules():
            if isinstance(child, nn.Conv1d):
                child.weight.mul_(2)
    optimized.eval()
    fresh = copy.deepcopy(optimized)
    assert torch.equal(run(optimized, LENGTHS, TOKENS)[0], run(fresh, LENGTHS, TOKENS)[0])


def test_meta_models_are_packed_when_they_run(pair):
    module, optimized = pair
    empty = copy.deepcopy(module).to("meta")
    assert optimize_for_inference(empty)
    empty.load_state_dict(module.state_dict(), assign=True)
    assert torch.equal(run(empty, LENGTHS, TOKENS)[0], run(optimized, LENGTHS, TOKENS)[0])


@pytest.mark.parametrize("engine", ["float", "linear_dynamic"])
def test_other_engines_are_left_alone(engine, monkeypatch):
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", engine)
    module = quantize(build())
    assert optimize_for_inference(module) == ()
    assert stacks(module) == []


def test_float_models_are_left_alone():
    module = build()
    assert optimize_for_inference(module) == ()
    assert stacks(module) == []


def test_layers_that_are_float_run_as_they_are(exact):
    # The last decoder layer and the first encoder layer stay float.
    module = quantize(
        build(num_blocks=3), r"encoder\.encoders\.0\..*(self_attn|feed_forward)\.\w+|decoder\.decoders\.1\..*\.\w+"
    )
    optimized = copy.deepcopy(module)
    assert optimize_for_inference(optimized) == (
        "encoder.encoders: 1 of 2 layers in int8 by oneDNN",
        "decoder.decoders: 1 of 2 layers in int8 by oneDNN",
        "decoder.output_layer: runs in float by oneDNN",
    )
    for got, want, valid in zip(
        run(optimized, LENGTHS, TOKENS), run(module, LENGTHS, TOKENS), (LENGTHS, TOKENS), strict=True
    ):
        assert error(got, want, valid) < 0.06


@pytest.mark.parametrize("change", [{"normalize_before": False}, {"concat_after": True}, {"lora_list": ["q", "o"]}])
def test_unusual_encoders_are_left_alone(change):
    module = quantize(build(**change), r"encoder\..*(self_attn|feed_forward)\.(linear_(?!q_k_v)\w+|w_\d)")
    assert optimize_for_inference(module) == ()


class TestFallingBack:
    """Cases that FunASR's own forward serves: the results are the same to the last bit."""

    @pytest.fixture
    def run_rows(self, monkeypatch):
        calls = []
        for stack in (EncoderStack, DecoderStack):
            original = stack._rows
            monkeypatch.setattr(
                stack, "_rows", lambda self, *args, original=original: calls.append(original(self, *args)) or calls[-1]
            )
        return calls

    def test_usual_calls_do_not(self, pair, run_rows):
        run(pair[1], LENGTHS, TOKENS)
        assert len(run_rows) == 4
        assert None not in run_rows

    def test_training(self, pair, run_rows):
        for module in pair:
            module.train()
            for child in module.modules():
                if isinstance(child, nn.Dropout):
                    child.p = 0.0
        got, want = run(pair[1], LENGTHS, TOKENS), run(pair[0], LENGTHS, TOKENS)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        assert run_rows == []

    def test_gradients(self, pair, run_rows):
        x, lengths = speech([20])
        x.requires_grad_()
        pair[1].encode(x, lengths)[0].sum().backward()
        assert x.grad.abs().sum() > 0
        assert run_rows == []

    def test_other_dtypes(self, pair, run_rows):
        x, lengths = speech([20])
        for module in pair:
            module.double()
        with torch.no_grad():
            assert torch.equal(pair[1].encode(x.double(), lengths)[0], pair[0].encode(x.double(), lengths)[0])
        assert run_rows == []

    def test_streaming(self, pair, run_rows):
        x = torch.randn(1, 20, WIDTH, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            got, want = (module.encoder.encoders(x, None, None, None, None)[0] for module in reversed(pair))
        assert torch.equal(got, want)
        assert run_rows == [None]

    def test_masks_that_are_no_lengths(self, pair, run_rows):
        x = torch.randn(2, 20, WIDTH, generator=torch.Generator().manual_seed(0))
        holes = torch.ones(2, 1, 20)
        holes[0, 0, 5] = 0
        squares = torch.ones(2, 20, 20).tril()
        with torch.no_grad():
            for mask in (holes, torch.zeros(2, 1, 20)):
                got, want = (module.encoder.encoders(x, mask)[0] for module in reversed(pair))
                assert torch.equal(got.nan_to_num(), want.nan_to_num())
            got, want = (
                module.decoder(x, torch.tensor([20, 20]), x, torch.tensor([20, 20]), chunk_mask=squares)[0]
                for module in reversed(pair)
            )
        assert torch.equal(got, want)

    def test_attention_matrices(self, pair, run_rows):
        for module in pair:
            module.decoder.decoders[0].reserve_attn = True
        run(pair[0], LENGTHS, TOKENS)
        run(pair[1], LENGTHS, TOKENS)
        got, want = (module.decoder.decoders[0].attn_mat for module in reversed(pair))
        assert len(got) == len(want) == 1
        assert got[0].shape == want[0].shape

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite(self, pair, value):
        x, lengths = speech([20, 20])
        x[0, 3, 4] = value
        with torch.no_grad():
            got, want = (module.encode(x, lengths)[0] for module in reversed(pair))
        assert torch.equal(got.isfinite(), want.isfinite())


def test_layout_reads_lengths():
    x = torch.randn(3, 5, 2)
    mask = (torch.arange(5) < torch.tensor([5, 2, 0])[:, None])[:, None]
    layout = sanm_layers.Layout.of(mask, x)
    assert layout.lengths == (5, 2, 0)
    rows = layout.rows(x)
    assert torch.equal(rows, torch.cat([x[0], x[1, :2]]))
    back = layout.padded(rows)
    assert torch.equal(back, x * mask.transpose(1, 2))
    assert sanm_layers.Layout.of(mask.transpose(1, 2).float(), x) == layout
    assert sanm_layers.Layout.of(None, x) is None
    assert sanm_layers.Layout.of(mask[:2], x) is None


def test_an_utterance_without_frames_gives_zero():
    layout, memory = sanm_layers.Layout((2, 1), 2), sanm_layers.Layout((3, 0), 3)
    got = sanm_layers.attend(torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 8), 2, layout, memory)
    assert got[2].eq(0).all()
    assert got[:2].ne(0).all()
