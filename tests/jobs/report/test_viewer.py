"""The 360° viewer in a real browser: where it looks, what it says of distances, and who can use it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dap_engine.jobs.report.pictures import scene_document
from dap_engine.jobs.report.site import viewer_page
from dap_engine.models.data.depth_png import BEYOND_RANGE, MISSING, encode_units

HEIGHT, WIDTH = 64, 128
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([2 * COLUMNS, 255 - 2 * COLUMNS, 3 * ROWS], -1).astype(np.uint8)
UNITS = (512 * 2 + 7 * COLUMNS + 31 * ROWS).astype(np.uint16)
UNITS[:12] = BEYOND_RANGE
UNITS[-12:] = MISSING
FAR = (UNITS // 2 + 600).astype(np.uint16)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    scene = scene_document("a room", RGB, {"near": encode_units(UNITS), "far": encode_units(FAR)})
    path = tmp_path_factory.mktemp("viewer") / "room.html"
    path.write_bytes(viewer_page("a room", [scene]))
    return path


@pytest.fixture
def page(visit, page_file):
    return opened(visit, page_file)


def opened(visit, path, **options):
    page = visit(path, **{"viewport": {"width": 500, "height": 400}, **options})  # small: it is drawn without a card
    page.wait_for_selector("#viewer[data-ready]")
    return page


def state(page) -> dict:
    return page.evaluate("() => ({...window.viewer.state})")


def look(page, **values) -> None:
    page.evaluate("values => window.viewer.set(values)", values)


def shot(page) -> np.ndarray:
    """The canvas as it is on the screen, uint8 RGB, without what lies above it."""
    page.add_style_tag(content=".cross, .distance { visibility: hidden }")
    data = page.locator("canvas").screenshot()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def pixel_of(yaw_deg: float, pitch_deg: float, fov_deg: float, x: float, y: float, aspect: float) -> tuple[int, int]:
    """Row and column of the map that is seen at a place of the canvas, 0 to 1 from its top left."""
    half = np.tan(np.radians(fov_deg) / 2)
    forward, right, up = 1.0, (2 * x - 1) * half * aspect, (1 - 2 * y) * half
    pitch = np.radians(pitch_deg)
    forward, up = forward * np.cos(pitch) - up * np.sin(pitch), forward * np.sin(pitch) + up * np.cos(pitch)
    longitude_deg = np.degrees(np.arctan2(right, forward)) + yaw_deg
    latitude_deg = np.degrees(np.arctan2(up, np.hypot(right, forward)))
    column = int(np.floor((0.5 + longitude_deg / 360) * WIDTH)) % WIDTH
    return int(np.floor((0.5 - latitude_deg / 180) * HEIGHT)), column


@pytest.mark.parametrize("yaw_deg", [-135, -60, 0, 45, 150])
def test_the_middle_shows_the_column_of_the_yaw(page, yaw_deg):
    look(page, yaw=yaw_deg)
    picture = shot(page)
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 2].astype(int)
    column = (0.5 + yaw_deg / 360) * WIDTH
    assert np.abs(middle - [2 * column, 255 - 2 * column, 3 * HEIGHT / 2]).max() < 12


def test_what_is_to_the_right_lies_in_higher_columns_and_what_is_up_in_lower_rows(page):
    picture = shot(page).astype(int)
    assert picture[picture.shape[0] // 2, -20, 0] > picture[picture.shape[0] // 2, 20, 0] + 50
    assert picture[-20, picture.shape[1] // 2, 2] > picture[20, picture.shape[1] // 2, 2] + 30


@pytest.mark.parametrize("mode", ["look", "inside"])
def test_the_distance_under_the_cursor_is_that_of_the_file(page, mode):
    box = page.locator("canvas").bounding_box()
    aspect = box["width"] / box["height"]
    for yaw, pitch, fov, x, y in ((0, 0, 90, 0.31, 0.62), (170, 20, 60, 0.9, 0.4), (-77, -35, 110, 0.15, 0.55)):
        look(page, yaw=yaw, pitch=pitch, fov=fov, mode=mode)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        units = UNITS[pixel_of(yaw, pitch, fov, x, y, aspect)]
        assert page.locator(".distance").text_content() == f"{units / 512:.2f} m"


def test_what_has_no_distance_or_is_beyond_the_range_is_said(page):
    page.mouse.move(0, 0)
    look(page, pitch=85)
    assert page.locator(".distance").text_content() == "beyond the range"
    look(page, pitch=-85)
    assert page.locator(".distance").text_content() == "no distance"


def test_from_outside_the_distance_is_that_of_the_point_under_the_cursor(page):
    look(page, mode="outside", yaw=30, pitch=-10, away=3)
    distance = page.evaluate("() => window.viewer.distanceAt(0.5, 0.5)")
    known = UNITS[(UNITS != MISSING) & (UNITS != BEYOND_RANGE)]
    assert distance * 512 in known
    assert page.evaluate("() => window.viewer.distanceAt(0.02, 0.02)") is None


def test_depth_blends_in_and_the_range_mask_marks_the_sky(page):
    def middle() -> np.ndarray:
        picture = shot(page)
        return picture[picture.shape[0] // 2, picture.shape[1] // 2].astype(int)

    look(page, pitch=85)
    plain = middle()
    look(page, mask=True)
    assert np.abs(middle() - plain).max() > 60
    look(page, pitch=0)
    picture = middle()
    look(page, blend=1)
    assert np.abs(middle() - picture).max() > 60


def test_the_keyboard_alone_does_everything(page):
    while page.evaluate("() => document.activeElement.tagName") != "CANVAS":
        page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowLeft", "ArrowUp", "+", "b", "m", "d"):
        page.keyboard.press(key)
    found = state(page)
    assert (found["yaw"], found["pitch"], found["blend"], found["mask"], found["map"]) == (19, 10, 0.25, True, "far")
    assert found["fov"] == pytest.approx(75)
    assert page.locator(".distance").text_content().endswith(" m")  # of the middle
    page.keyboard.press("v")
    page.keyboard.press("v")
    page.keyboard.press("-")
    assert (state(page)["mode"], state(page)["away"]) == ("outside", pytest.approx(3))
    page.keyboard.press("Home")
    assert (state(page)["yaw"], state(page)["away"], state(page)["mode"]) == (0, 2.5, "outside")
    page.keyboard.press("Tab")  # the controls are in reach, too
    assert page.evaluate("() => document.activeElement.tagName") == "SELECT"


def test_the_controls_do_what_keys_do(page):
    page.get_by_role("combobox", name="view").select_option("inside")
    page.get_by_role("combobox", name="map").select_option("far")
    page.get_by_role("checkbox", name="beyond the range").check()
    found = state(page)
    assert (found["mode"], found["map"], found["mask"]) == ("inside", "far", True)
    look(page, yaw=40)
    page.get_by_role("button", name="reset").click()
    assert state(page)["yaw"] == 0


def test_a_drag_grabs_the_picture(page):
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y + 50, steps=4)
    page.mouse.up()
    assert state(page)["yaw"] > 5
    assert state(page)["pitch"] > 5


def test_fingers_drag_and_pinch(visit, page_file):
    page = opened(visit, page_file, has_touch=True, viewport={"width": 360, "height": 640})
    touch = page.context.new_cdp_session(page)
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def send(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x + dx, "y": y + dy, "id": number} for number, (dx, dy) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    send("touchStart", (0, 0))
    send("touchMove", (-60, 0))
    send("touchEnd")
    dragged = state(page)
    assert dragged["yaw"] > 5
    send("touchStart", (-20, 0), (20, 0))
    send("touchMove", (-60, 0), (60, 0))
    send("touchEnd")
    assert state(page)["fov"] < 0.7 * dragged["fov"]


def test_both_colour_schemes(visit, page_file):
    corners = []
    for scheme in ("light", "dark"):
        page = opened(visit, page_file, color_scheme=scheme)
        look(page, mode="outside")
        corners.append(int(shot(page)[3, 3].mean()))
    assert corners[0] > 180
    assert corners[1] < 60


def test_a_narrow_screen_needs_no_scrolling_sideways(visit, page_file):
    page = opened(visit, page_file, viewport={"width": 320, "height": 600})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    assert page.locator("canvas").bounding_box()["height"] > 200


def test_a_picture_without_distances_is_shown_all_the_same(visit, tmp_path):
    (tmp_path / "plain.html").write_bytes(viewer_page("plain", [scene_document("plain", RGB, {})]))
    page = opened(visit, tmp_path / "plain.html")
    assert np.abs(shot(page)[10, 10].astype(int)).sum() > 0
    assert page.locator(".distance").text_content() == ""
