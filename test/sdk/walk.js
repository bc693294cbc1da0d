// Walks through the eleven operations of @bandwidth/webrtc and checks every answer.
// Environment: BASE_URL, ACCOUNT, USERNAME, PASSWORD. Prints one line for each operation, and fails with a stack.

const assert = require("node:assert/strict");
const { ApiController, Client, Environment } = require("@bandwidth/webrtc");

const { BASE_URL, ACCOUNT, USERNAME, PASSWORD } = process.env;
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function controller(password) {
  return new ApiController(
    new Client({
      environment: Environment.Custom,
      baseUrl: BASE_URL,
      basicAuthUserName: USERNAME,
      basicAuthPassword: password,
    }),
  );
}

const api = controller(PASSWORD);

/** Calls an operation, checks its status and returns its result. */
async function ask(name, status, ...args) {
  const response = await api[name](ACCOUNT, ...args);
  assert.equal(response.statusCode, status, name);
  assert.ok(response.headers["x-request-id"], `${name}: X-Request-Id`);
  console.log(`ok ${name} ${response.statusCode}`);
  return response.result;
}

/** Expects the operation to be refused with the status, and a body as the contract has it. */
async function refused(on, name, status, ...args) {
  await assert.rejects(on[name](...args), (error) => {
    assert.equal(error.statusCode, status, `${name}: ${error.stack}`);
    const body = JSON.parse(error.body);
    if (status === 401 || status === 403) assert.equal(typeof body.message, "string");
    else {
      assert.ok(body.error.length > 0, name);
      assert.equal(body.requestId, error.headers["x-request-id"]);
    }
    return true;
  });
  console.log(`refused ${name} ${status}`);
}

async function main() {
  // 1 createParticipant
  const wanted = {
    callbackUrl: "https://app.example.com/callback",
    publishPermissions: ["AUDIO", "VIDEO"],
    tag: "agent",
    deviceApiVersion: "V3",
  };
  const { participant, token } = await ask("createParticipant", 200, wanted);
  assert.match(participant.id, uuid);
  const expected = { ...wanted, id: participant.id, sessions: [], subscriptions: {} };
  assert.deepEqual({ ...participant }, expected);
  const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
  assert.equal(claims.a, ACCOUNT);
  assert.equal(claims.p, participant.id);
  assert.equal(claims.v, "v3");
  assert.ok(claims.exp > Date.now() / 1000);
  assert.ok(claims.iss && claims.tid);
  const { participant: silent } = await ask("createParticipant", 200, {});
  assert.deepEqual(silent.publishPermissions, []);

  // 2 getParticipant
  assert.deepEqual({ ...(await ask("getParticipant", 200, participant.id)) }, expected);

  // 3 createSession, 4 getSession
  const session = await ask("createSession", 200, { tag: "support" });
  assert.match(session.id, uuid);
  assert.equal(session.tag, "support");
  assert.deepEqual({ ...(await ask("getSession", 200, session.id)) }, { id: session.id, tag: "support" });

  // 5 listSessionParticipants, 6 addParticipantToSession
  assert.deepEqual(await ask("listSessionParticipants", 200, session.id), []);
  await ask("addParticipantToSession", 204, session.id, participant.id, { sessionId: session.id });
  await ask("addParticipantToSession", 204, session.id, silent.id);
  const members = await ask("listSessionParticipants", 200, session.id);
  assert.deepEqual(members.map((m) => m.id).sort(), [participant.id, silent.id].sort());
  const joined = await ask("getParticipant", 200, participant.id);
  assert.deepEqual(joined.sessions, [session.id]);
  assert.deepEqual({ ...joined.subscriptions }, { sessionId: session.id });

  // 7 getParticipantSubscriptions, 8 updateParticipantSubscriptions
  const plain = (o) => JSON.parse(JSON.stringify(o));
  assert.deepEqual(plain(await ask("getParticipantSubscriptions", 200, session.id, participant.id)), {
    sessionId: session.id,
  });
  const chosen = {
    sessionId: session.id,
    participants: [{ participantId: silent.id, streamAliases: ["camera", "screen"] }],
  };
  await ask("updateParticipantSubscriptions", 204, session.id, participant.id, chosen);
  assert.deepEqual(plain(await ask("getParticipantSubscriptions", 200, session.id, participant.id)), chosen);
  await ask("updateParticipantSubscriptions", 204, session.id, participant.id);
  assert.deepEqual(plain(await ask("getParticipantSubscriptions", 200, session.id, participant.id)), {});

  // 9 removeParticipantFromSession, 10 deleteSession, 11 deleteParticipant
  await ask("removeParticipantFromSession", 204, session.id, silent.id);
  assert.deepEqual(
    (await ask("listSessionParticipants", 200, session.id)).map((m) => m.id),
    [participant.id],
  );
  await ask("deleteSession", 204, session.id);
  await refused(api, "getSession", 404, ACCOUNT, session.id);
  assert.deepEqual((await ask("getParticipant", 200, participant.id)).sessions, []);
  for (const id of [participant.id, silent.id]) {
    await ask("deleteParticipant", 204, id);
    await refused(api, "getParticipant", 404, ACCOUNT, id);
  }

  // What the SDK's user sees when it goes wrong.
  await refused(controller("wrong"), "createSession", 401, ACCOUNT, {});
  await refused(api, "createSession", 403, "1234567", {});
  await refused(api, "createParticipant", 400, ACCOUNT, { tag: "x".repeat(51) });

  // The transfer verb is made in the SDK; its value is what a trunk brings as User-to-User.
  assert.match(ApiController.generateTransferBxml(token, "c-1-2"), new RegExp(`${token};encoding=jwt`));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
