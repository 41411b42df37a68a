//! Calls that cannot be understood get an answer.
//!
//! zlink ends a connection when a call's method or parameters do not fit the service. People who write
//! a client by hand deserve the errors that varlink has for that, so calls are decoded twice: first as
//! JSON, then as what the service knows. Descriptors that come with a call are handed on as well, which
//! zlink's generated service does not do.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zlink::service::{HandleResult, MethodReply};
use zlink::{Call, Connection, varlink_service};

/// A service that takes descriptors and knows the names of its methods.
pub(super) trait Descriptors {
    /// Full names of the methods.
    const METHODS: &'static [&'static str];

    /// Takes the descriptors that came with the next call.
    fn descriptors(&mut self, descriptors: Vec<OwnedFd>);
}

/// See the [module](self). `Sock` is the kind of connection.
pub(super) struct Lenient<S: zlink::Service<Sock>, Sock: zlink::connection::Socket> {
    service: S,
    /// The call in hand: its reply may borrow from it.
    current: Option<Call<S::MethodCall<'static>>>,
}

impl<S: zlink::Service<Sock>, Sock: zlink::connection::Socket> Lenient<S, Sock> {
    pub(super) fn new(service: S) -> Self {
        Self {
            service,
            current: None,
        }
    }
}

/// A call, or why it is none.
#[derive(Debug)]
pub(super) struct Decoded<M>(Mutex<Option<Result<M, varlink_service::Error<'static>>>>);

#[derive(Deserialize)]
struct AnyCall {
    #[serde(default)]
    method: String,
    #[serde(default)]
    parameters: Option<serde_json::Value>,
}

/// Carries the names of a service's methods to where calls are decoded.
pub(super) struct Named<M, D>(Decoded<M>, std::marker::PhantomData<fn() -> D>);

impl<M: std::fmt::Debug, D> std::fmt::Debug for Named<M, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, M: Deserialize<'static>, D: Descriptors> Deserialize<'de> for Named<M, D> {
    fn deserialize<De: Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
        let any = AnyCall::deserialize(deserializer)?;
        let mut call = serde_json::Map::new();
        call.insert("method".into(), any.method.clone().into());
        if let Some(parameters) = any.parameters {
            call.insert("parameters".into(), parameters);
        }
        let standard = any.method.starts_with("org.varlink.service.");
        let known = standard || D::METHODS.contains(&any.method.as_str());
        let decoded = if known {
            // What serde says of an enum without tags helps nobody; the description of the interface does.
            M::deserialize(serde_json::Value::Object(call)).map_err(|_| {
                let parameter = format!(
                    "the parameters do not fit {} (org.varlink.service.GetInterfaceDescription shows them)",
                    any.method
                );
                varlink_service::Error::InvalidParameter {
                    parameter: Cow::Owned(parameter),
                }
            })
        } else {
            Err(varlink_service::Error::MethodNotFound {
                method: Cow::Owned(any.method),
            })
        };
        let decoded = Decoded(Mutex::new(Some(decoded)));
        Ok(Self(decoded, std::marker::PhantomData))
    }
}

/// An error of the service, or of varlink itself.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    Service(E),
    Varlink(varlink_service::Error<'static>),
}

impl<E: Serialize> Serialize for Refusal<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Service(error) => error.serialize(serializer),
            Self::Varlink(error) => error.serialize(serializer),
        }
    }
}

impl<S, Sock> zlink::Service<Sock> for Lenient<S, Sock>
where
    Sock: zlink::connection::Socket,
    S: zlink::Service<Sock> + Descriptors,
{
    type MethodCall<'de> = Named<S::MethodCall<'static>, S>;
    type ReplyParams<'ser>
        = S::ReplyParams<'ser>
    where
        Self: 'ser;
    type ReplyStreamParams = S::ReplyStreamParams;
    type ReplyStreamError = S::ReplyStreamError;
    type ReplyStream = S::ReplyStream;
    type ReplyError<'ser>
        = Refusal<S::ReplyError<'ser>>
    where
        Self: 'ser;
    type Upgrade = S::Upgrade;

    async fn handle<'ser>(
        &'ser mut self,
        call: &'ser Call<Self::MethodCall<'_>>,
        connection: &mut Connection<Sock>,
        descriptors: Vec<OwnedFd>,
    ) -> HandleResult<
        Self::ReplyParams<'ser>,
        Self::ReplyStream,
        Self::ReplyError<'ser>,
        Self::Upgrade,
    > {
        let decoded = call.method().0.0.lock().ok().and_then(|mut d| d.take());
        let method = match decoded {
            Some(Ok(method)) => method,
            Some(Err(error)) => return (MethodReply::Error(Refusal::Varlink(error)), Vec::new()),
            // A call is handled once, so what was decoded is there.
            None => {
                let method = Cow::Borrowed("handled before");
                let error = varlink_service::Error::MethodNotFound { method };
                return (MethodReply::Error(Refusal::Varlink(error)), Vec::new());
            }
        };
        self.service.descriptors(descriptors);
        let call = self.current.insert(
            Call::new(method)
                .set_oneway(call.oneway())
                .set_more(call.more()),
        );
        let (reply, descriptors) = self.service.handle(call, connection, Vec::new()).await;
        let reply = match reply {
            MethodReply::Single(params) => MethodReply::Single(params),
            MethodReply::Error(error) => MethodReply::Error(Refusal::Service(error)),
            MethodReply::Multi(stream) => MethodReply::Multi(stream),
            MethodReply::Upgrade(params, state) => MethodReply::Upgrade(params, state),
            _ => MethodReply::Single(None),
        };
        (reply, descriptors)
    }
}
