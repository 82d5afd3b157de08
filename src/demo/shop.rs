//! The shop's services. The catalogue holds [`CATALOGUE`] products; any user exists.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{Reply, Request, Verb};
use super::sample::{Amount, Draw, Hundredths, Ledger};

/// Products are numbered from 1 to this.
pub(super) const CATALOGUE: u64 = 120;

/// `GET /me` of the caller
pub(super) fn users(request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["me"], Verb::Get) => request
            .user()
            .map(|user| Reply::ok(&profile(user)).cached("private, no-store"))
            .into(),
        (["me"], _) => Reply::not_allowed("GET, HEAD"),
        _ => Reply::not_found(),
    }
}

/// `GET /products?offset=&limit=`, `GET /products/{id}`, `GET /reviews?product=&limit=`; all of it the same for everybody
pub(super) fn products(ledger: &Ledger, request: &Request) -> Reply {
    let path = request.path();
    let reply = match path.as_slice() {
        ["products"] => catalogue(request),
        ["products", id] => product(id).map(|product| Reply::ok(&product).cached("public, max-age=60")),
        ["reviews"] => reviews(ledger, request),
        _ => return Reply::not_found(),
    };
    match (request.verb, reply) {
        (Verb::Get, Ok(reply)) => reply.tagged(request),
        (Verb::Get, Err(refusal)) => refusal,
        _ => Reply::not_allowed("GET, HEAD"),
    }
}

/// `GET /orders` of the caller, `POST /orders`
pub(super) fn orders(ledger: &Ledger, request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["orders"], Verb::Get) => past_orders(ledger, request).into(),
        (["orders"], Verb::Post) => order(ledger, request).into(),
        (["orders"], Verb::Other) => Reply::not_allowed("GET, HEAD, POST"),
        _ => Reply::not_found(),
    }
}

/// `POST /payments`
pub(super) fn payments(ledger: &Ledger, request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["payments"], Verb::Post) => payment(ledger, request).into(),
        (["payments"], _) => Reply::not_allowed("POST"),
        _ => Reply::not_found(),
    }
}

fn profile(user: &str) -> Value {
    let mut draw = Draw::of("profile", user);
    json!({
        "id": user,
        "name": draw.pick(&["김민지", "이서준", "박하은", "정도윤", "최수아"]),
        "grade": draw.pick(&["family", "silver", "gold", "vip"]),
        "points": draw.between(0, 90_000),
        "address": {
            "city": draw.pick(&["서울", "부산", "대구", "광주", "제주"]),
            "postcode": format!("{:05}", draw.between(1_000, 63_999)),
        },
    })
}

#[derive(Clone, Copy, Serialize)]
struct Price {
    amount: Hundredths,
    currency: &'static str,
}

#[derive(Serialize)]
struct Product {
    id: u64,
    name: String,
    description: String,
    price: Price,
    thumbnail: String,
    images: Vec<String>,
    stock: u64,
    rating: Hundredths,
    sku: u64,
    category: &'static str,
    attributes: Attributes,
}

#[derive(Serialize)]
struct Attributes {
    origin: &'static str,
    maker: &'static str,
    color: &'static str,
    weight_kg: Hundredths,
    delivery_days: u64,
    returnable: bool,
}

fn product(id: &str) -> Result<Product, Reply> {
    let id = id.parse().ok().filter(|id| (1..=CATALOGUE).contains(id));
    id.map(numbered).ok_or_else(Reply::not_found)
}

/// The product with a number from the catalogue.
fn numbered(id: u64) -> Product {
    let mut draw = Draw::of("product", &id.to_string());
    let (category, names) = shelf(&mut draw);
    let (name, color) = (
        draw.pick(names),
        draw.pick(&["아이보리", "차콜", "올리브", "네이비", "라일락"]),
    );
    let (origin, maker) = (
        draw.pick(&["국산", "베트남산", "포르투갈산"]),
        draw.pick(&["온달공방", "바람살림", "해오름"]),
    );
    Product {
        id,
        name: format!("{name} ({color})"),
        description: format!(
            "{maker}에서 만든 {name}입니다. 매일 쓰기 좋은 크기와 무게로 다듬었고, {color} 색은 오래 써도 질리지 않습니다. \
             재료는 모두 {origin}이며, 출고 전에 한 번 더 검수합니다. 받으신 뒤 마음에 들지 않으면 7일 안에 돌려보내실 수 있습니다. \
             선물 포장을 고르시면 손글씨 카드를 함께 넣어 드립니다. 세탁이나 관리 방법은 상자 안의 안내문을 보아 주세요. \
             오후 두 시까지 주문하시면 그날 바로 보내 드리고, 제주와 섬 지역은 하루나 이틀이 더 걸립니다."
        ),
        price: Price {
            amount: Hundredths::whole(draw.between(39, 1_990) * 100),
            currency: "KRW",
        },
        thumbnail: format!("https://shop.example/images/{id}/thumbnail.webp"),
        images: (1..=4)
            .map(|number| format!("https://shop.example/images/{id}/{number}.webp"))
            .collect(),
        stock: draw.between(0, 400),
        rating: Hundredths(draw.between(300, 500) as i64),
        sku: 88_010_000_000_000_000 + id,
        category,
        attributes: Attributes {
            origin,
            maker,
            color,
            weight_kg: Hundredths(draw.between(10, 450) as i64),
            delivery_days: draw.between(1, 4),
            returnable: draw.between(1, 10) > 1,
        },
    }
}

/// A category and what it sells.
fn shelf(draw: &mut Draw) -> (&'static str, &'static [&'static str]) {
    match draw.between(1, 3) {
        1 => ("kitchen", &["무쇠 냄비 24cm", "도자기 밥공기", "원목 도마"]),
        2 => ("living", &["린넨 커튼", "면 담요", "종이 조명"]),
        _ => ("outdoor", &["접이식 의자", "보온병 750ml", "방수 가방"]),
    }
}

/// A product as lists show it.
#[derive(Serialize)]
struct Listed {
    id: u64,
    name: String,
    price: Price,
    thumbnail: String,
    stock: u64,
    rating: Hundredths,
}

#[derive(Serialize)]
struct Page {
    products: Vec<Listed>,
    offset: usize,
    total: u64,
}

fn catalogue(request: &Request) -> Result<Reply, Reply> {
    let limit = request.count("limit", 20, 100)?;
    let offset = request.parameter("offset").map_or(Ok(0), str::parse::<usize>);
    let offset = offset.map_err(|_| Reply::bad_request("`offset` is a number"))?;
    let products = (1..=CATALOGUE).skip(offset).take(limit).map(numbered);
    let products = products.map(
        |Product {
             id,
             name,
             price,
             thumbnail,
             stock,
             rating,
             ..
         }| Listed {
            id,
            name,
            price,
            thumbnail,
            stock,
            rating,
        },
    );
    Ok(Reply::ok(&Page {
        products: products.collect(),
        offset,
        total: CATALOGUE,
    })
    .cached("public, max-age=30"))
}

#[derive(Serialize)]
struct Review {
    review_id: u64,
    product_id: u64,
    rating: u64,
    author: &'static str,
    text: &'static str,
    written_at: String,
}

/// None for a product that does not exist: an empty list is no error.
fn reviews(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let limit = request.count("limit", 10, 50)?;
    let product = request
        .parameter("product")
        .ok_or_else(|| Reply::bad_request("`product` is missing"))?;
    let known = product.parse().ok().filter(|id| (1..=CATALOGUE).contains(id));
    let reviews: Vec<Review> = known.map(|id| reviews_of(ledger, id)).unwrap_or_default();
    let shown: Vec<&Review> = reviews.iter().take(limit).collect();
    Ok(Reply::ok(&shown).cached("public, max-age=15"))
}

fn reviews_of(ledger: &Ledger, product_id: u64) -> Vec<Review> {
    let mut draw = Draw::of("reviews", &product_id.to_string());
    let mut hours = 0;
    (0..draw.between(3, 12))
        .map(|_| {
            hours += draw.between(5, 200);
            Review {
                review_id: 30_000_000_000_000_000 + draw.between(1, 999_999_999_999),
                product_id,
                rating: draw.between(3, 5),
                author: draw.pick(&["김*지", "이*준", "박*은", "정*윤", "최*아"]),
                text: draw.pick(&[
                    "배송이 빨랐어요. 색도 사진과 같습니다.",
                    "생각보다 무겁지만 튼튼합니다.",
                    "부모님께 선물했는데 좋아하시네요.",
                    "포장이 꼼꼼해서 좋았습니다.",
                ]),
                written_at: ledger.hours_ago(hours),
            }
        })
        .collect()
}

#[derive(Serialize)]
struct Line {
    product: u64,
    name: String,
    quantity: u64,
    price: Price,
}

#[derive(Serialize)]
struct Order<'a> {
    order_id: u64,
    user: &'a str,
    status: &'static str,
    lines: Vec<Line>,
    total: Price,
    placed_at: String,
}

impl<'a> Order<'a> {
    fn new(order_id: u64, user: &'a str, status: &'static str, lines: Vec<Line>, placed_at: String) -> Self {
        let total = lines
            .iter()
            .map(|line| line.price.amount.0 * line.quantity as i64)
            .sum();
        let total = Price {
            amount: Hundredths(total),
            currency: "KRW",
        };
        Order {
            order_id,
            user,
            status,
            lines,
            total,
            placed_at,
        }
    }
}

fn line(product: u64, quantity: u64) -> Line {
    let Product { id, name, price, .. } = numbered(product);
    Line {
        product: id,
        name,
        quantity,
        price,
    }
}

fn past_orders(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let user = request.user()?;
    let mut draw = Draw::of("orders", user);
    let mut hours = 0;
    let orders: Vec<Order<'_>> = (0..draw.between(2, 6))
        .map(|_| {
            hours += draw.between(30, 600);
            let lines = (0..draw.between(1, 3))
                .map(|_| line(draw.between(1, CATALOGUE), draw.between(1, 3)))
                .collect();
            let number = 20_250_000_000_000_000 + draw.between(1, 999_999_999_999);
            Order::new(
                number,
                user,
                draw.pick(&["paid", "shipped", "delivered"]),
                lines,
                ledger.hours_ago(hours),
            )
        })
        .collect();
    Ok(Reply::ok(&orders).cached("private, no-store"))
}

#[derive(Deserialize)]
struct OrderRequest {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    product: u64,
    quantity: u64,
}

fn order(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let user = request.user()?;
    let wanted: OrderRequest = request.json()?;
    if !(1..=50).contains(&wanted.items.len()) {
        return Err(Reply::bad_request("an order has 1 to 50 items"));
    }
    let lines: Option<Vec<Line>> = wanted
        .items
        .iter()
        .map(|item| {
            let sold = (1..=CATALOGUE).contains(&item.product) && (1..=99).contains(&item.quantity);
            sold.then(|| line(item.product, item.quantity))
        })
        .collect();
    let lines =
        lines.ok_or_else(|| Reply::bad_request("an item is a `product` we sell and a `quantity` from 1 to 99"))?;
    Ok(Reply::created(&Order::new(
        ledger.number(),
        user,
        "placed",
        lines,
        ledger.now(),
    )))
}

#[derive(Deserialize)]
struct PaymentRequest {
    order: u64,
    amount: Amount,
}

#[derive(Serialize)]
struct PaymentReceipt<'a> {
    payment_id: u64,
    status: &'static str,
    order: u64,
    amount: Amount,
    currency: &'static str,
    user: &'a str,
    approved_at: String,
}

fn payment(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let user = request.user()?;
    let payment: PaymentRequest = request.json()?;
    Ok(Reply::created(&PaymentReceipt {
        payment_id: ledger.number(),
        status: "captured",
        order: payment.order,
        amount: payment.amount,
        currency: "KRW",
        user,
        approved_at: ledger.now(),
    }))
}
